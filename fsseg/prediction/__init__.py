"""What segments which images: a run or adapters on their base, the cases, and the label maps one after the other."""
