// The slice viewer of a report. NiiVue draws the image and the prediction as fill; the reference is outlined on a canvas
// above it, along the borders of voxels, so that it stays a thin line however large the voxels are.
"use strict";
(() => {
  // Of each view: the axis that is scrolled, those that grow to the left and to the top (x, y, z are 0, 1, 2), NiiVue's
  // number of it, and what lies at the left, right, top and bottom border.
  const VIEWS = {
    axial: { across: 2, left: 0, up: 1, type: 0, letters: "RLAP" },
    coronal: { across: 1, left: 0, up: 2, type: 1, letters: "RLSI" },
    sagittal: { across: 0, left: 1, up: 2, type: 2, letters: "APSI" },
  };
  const BORDERS = [[0, 0.5], [1, 0.5], [0.5, 0], [0.5, 1]];
  const OPTIONS = {
    interactive: false, isRadiologicalConvention: true, sagittalNoseLeft: true, crosshairWidth: 0, loadingText: "",
    isOrientationTextVisible: false, isNearestInterpolation: true, dragAndDropEnabled: false, logLevel: "error",
  };
  const RGBA32 = 2304;

  class SliceViewer {
    constructor(figure) {
      this.figure = figure;
      this.content = JSON.parse(figure.querySelector("script").textContent);
      this.parts = {};
      for (const part of figure.querySelectorAll("[data-part]")) this.parts[part.dataset.part] = part;
      this.loading = Promise.resolve();
    }

    async start() {
      const { cases, structures } = this.content;
      if (!cases.length || !document.createElement("canvas").getContext("webgl2")) return;
      for (const part of this.figure.querySelectorAll("[hidden]")) part.hidden = false;
      this.figure.querySelector(".notice").remove();
      this.colours = structures.map(([, colour]) => rgba(colour));
      this.figure.querySelector(".legend").append(...structures.map(([name, colour]) => legendEntry(name, colour)));
      fill(this.parts.case, cases.map((each) => each.name));
      this.listen();
      this.niivue = new niivue.Niivue(OPTIONS);
      await this.niivue.attachToCanvas(this.parts.volume);
      await this.showCase();
    }

    listen() {
      const { parts } = this;
      const later = (show) => () => { this.loading = this.loading.then(() => show.call(this)); };
      parts.case.addEventListener("change", later(this.showCase));
      parts.prediction.addEventListener("change", later(this.showPrediction));
      parts.view.addEventListener("change", later(this.showView));
      parts.fill.addEventListener("change", later(this.showFill));
      parts.opacity.addEventListener("input", later(this.showFill));
      parts.reference.addEventListener("change", later(this.drawOutline));
      parts.slice.addEventListener("input", () => this.showSlice());
      const screen = parts.volume.parentElement;
      screen.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
      screen.addEventListener("pointerdown", (event) => { this.pointer = event.clientX; });
      screen.addEventListener("pointermove", (event) => this.drag(event));
      new ResizeObserver(() => this.drawOutline()).observe(screen);
    }

    // At the first and the last slice the wheel scrolls the page.
    wheel(event) {
      if (this.step(Math.sign(event.deltaY))) event.preventDefault();
    }

    // A finger, or the mouse with its button down, scrolls slices from left to right; up and down scroll the page.
    drag(event) {
      if (!event.buttons || !this.volume) return;
      const count = this.volume.dimsRAS[this.view.across + 1];
      const pixels = Math.max(4, event.currentTarget.clientWidth / count);
      const steps = Math.trunc((event.clientX - this.pointer) / pixels);
      if (steps) this.pointer = event.clientX;
      this.step(steps);
    }

    step(by) {
      const { slice } = this.parts;
      const before = slice.value;
      slice.value = Number(before) + by;
      if (slice.value === before) return false;
      this.showSlice();
      return true;
    }

    get view() {
      return VIEWS[this.parts.view.value];
    }

    get dims() {
      return this.volume.dimsRAS.slice(1, 4);
    }

    async showCase() {
      const shown = (this.shown = this.content.cases[this.parts.case.value]);
      const [low, high] = shown.window;
      this.volume = await volumeOf(shown.image, { colormap: "gray", cal_min: low, cal_max: high });
      this.reference = (await volumeOf(shown.reference)).img;
      this.position = [...shown.start_xyz];
      const before = this.parts.prediction.selectedOptions[0]?.label;
      fill(this.parts.prediction, shown.predictions.map(([name]) => name), before);
      this.overlay = this.volume.clone();
      this.overlay.hdr.datatypeCode = RGBA32;
      this.overlay.hdr.numBitsPerVoxel = 32;
      for (const old of [...this.niivue.volumes]) this.niivue.removeVolume(old);
      await this.paint();
      this.niivue.addVolume(this.volume);
      this.niivue.addVolume(this.overlay);
      this.showFill();
      this.showView();
    }

    async showPrediction() {
      await this.paint();
      this.showFill();
    }

    showFill() {
      this.niivue.setOpacity(1, this.parts.fill.checked ? Number(this.parts.opacity.value) : 0);
      this.sharpen();
      this.niivue.drawScene();
    }

    // Write the colours of a prediction, or none, into the overlay.
    async paint() {
      const chosen = this.shown.predictions[this.parts.prediction.value];
      const pixels = new Uint8Array(4 * this.reference.length);
      if (chosen) {
        (await volumeOf(chosen[1])).img.forEach((integer, voxel) => {
          if (integer) pixels.set(this.colours[integer - 1], 4 * voxel);
        });
      }
      this.overlay.img = pixels;
    }

    // The image is drawn smoothly, the prediction voxel by voxel.
    sharpen() {
      this.niivue.updateInterpolation(0, true);
    }

    showView() {
      const { left, up, across, type } = this.view;
      const [width, height] = [left, up].map((axis) => this.dims[axis] * this.volume.pixDimsRAS[axis + 1]);
      const screen = this.parts.volume.parentElement;
      screen.style.aspectRatio = `${width} / ${height}`;
      screen.style.width = `min(100%, 40rem, ${(70 * width) / height}vh)`;
      this.parts.slice.max = this.dims[across] - 1;
      this.parts.slice.value = this.position[across];
      this.niivue.setSliceType(type);
      this.niivue.resizeListener();
      this.sharpen();
      this.showSlice();
    }

    showSlice() {
      const { across } = this.view;
      this.position[across] = Number(this.parts.slice.value);
      const index = this.shown.corner_xyz[across] + this.shown.steps_xyz[across] * this.position[across];
      this.parts.place.value = `${this.parts.view.value}, slice ${index}`;
      this.niivue.scene.crosshairPos = this.position.map((at, axis) => (at + 0.5) / this.dims[axis]);
      this.niivue.drawScene();
      this.drawOutline();
    }

    drawOutline() {
      const { outline } = this.parts;
      const scale = window.devicePixelRatio;
      outline.width = outline.clientWidth * scale;
      outline.height = outline.clientHeight * scale;
      if (!this.reference) return;
      const context = outline.getContext("2d");
      drawLetters(context, this.view.letters, scale);
      if (!this.parts.reference.checked) return;
      context.lineCap = "square";
      for (const [integer, path] of this.borders(outline.width, outline.height)) {
        for (const [style, width] of [["#000a", 3], [this.content.structures[integer - 1][1], 1.5]]) {
          context.strokeStyle = style;
          context.lineWidth = width * scale;
          context.stroke(path);
        }
      }
    }

    // The borders of each structure in the slice, as a path on a canvas of this size.
    borders(width, height) {
      const { left, up, across } = this.view;
      const strides = [1, this.dims[0], this.dims[0] * this.dims[1]];
      const [columns, rows] = [this.dims[left], this.dims[up]];
      const at = (column, row) => {
        if (column < 0 || row < 0 || column >= columns || row >= rows) return 0;
        const voxel = this.position[across] * strides[across] + column * strides[left] + row * strides[up];
        return this.reference[voxel];
      };
      const x = (column) => width * (1 - column / columns);
      const y = (row) => height * (1 - row / rows);
      const paths = new Map();
      for (let row = 0; row < rows; row++) {
        for (let column = 0; column < columns; column++) {
          const integer = at(column, row);
          if (!integer) continue;
          if (!paths.has(integer)) paths.set(integer, new Path2D());
          const line = (fromColumn, fromRow, toColumn, toRow) => {
            paths.get(integer).moveTo(x(fromColumn), y(fromRow));
            paths.get(integer).lineTo(x(toColumn), y(toRow));
          };
          if (at(column - 1, row) !== integer) line(column, row, column, row + 1);
          if (at(column + 1, row) !== integer) line(column + 1, row, column + 1, row + 1);
          if (at(column, row - 1) !== integer) line(column, row, column + 1, row);
          if (at(column, row + 1) !== integer) line(column, row + 1, column + 1, row + 1);
        }
      }
      return paths;
    }
  }

  function volumeOf(base64, options = {}) {
    const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
    return niivue.NVImage.loadFromUrl({ url: bytes.buffer, name: "volume.nii.gz", ...options });
  }

  function drawLetters(context, letters, scale) {
    const { width, height } = context.canvas;
    const margin = 10 * scale;
    Object.assign(context, { font: `${13 * scale}px sans-serif`, textAlign: "center", textBaseline: "middle" });
    Object.assign(context, { fillStyle: "#fff", strokeStyle: "#000", lineWidth: 3 * scale });
    BORDERS.forEach(([across, down], number) => {
      const place = [margin + across * (width - 2 * margin), margin + down * (height - 2 * margin)];
      context.strokeText(letters[number], ...place);
      context.fillText(letters[number], ...place);
    });
  }

  function rgba(colour) {
    return [...[1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16)), 255];
  }

  function fill(select, names, chosen) {
    select.replaceChildren(...names.map((name, number) => new Option(name, number, false, name === chosen)));
    select.parentElement.hidden = !names.length;
  }

  function legendEntry(name, colour) {
    const entry = document.createElement("li");
    entry.style.setProperty("--colour", colour);
    entry.textContent = name;
    return entry;
  }

  for (const figure of document.querySelectorAll(".viewer")) {
    const viewer = new SliceViewer(figure);
    figure.ready = viewer.start();
  }
})();
