// All vehicles as WebGL points over the map: from and to positions in typed arrays, the glide between two updates is
// computed in the vertex shader, so that a frame costs a handful of calls however many vehicles there are. The layer has
// a canvas of its own: the map below redraws only when it moves. Mercator without pitch or rotation is a plain scaling.
const GLIDE_S = 1.15; // a little more than the feed's interval, so that movement never pauses
const STRIDE = 13; // from x y, to x y, start, duration, heading from, heading to, speed, size, colour slot, hidden, index

const VERTEX = `
attribute vec2 from; attribute vec2 to; attribute vec4 motion; attribute vec4 look;
uniform vec2 centre; uniform vec2 scale; uniform float now; uniform float ratio; uniform float zoom; uniform float chosen;
uniform vec3 palette[16];
varying vec3 hue; varying float heading; varying float moving; varying float picked; varying float pixels;
attribute float slot;
void main() {
  float part = clamp((now - motion.x) / motion.y, 0.0, 1.0);
  vec2 at = mix(from, to, part) - centre;
  gl_Position = vec4(at * scale, 0.0, 1.0);
  picked = slot == chosen ? 1.0 : 0.0;
  float turn = motion.w - motion.z; turn -= 6.2831853 * floor((turn + 3.1415926) / 6.2831853);
  heading = motion.z + turn * clamp(part * 3.0, 0.0, 1.0);
  moving = smoothstep(1.0, 4.0, look.x);
  pixels = look.y * clamp((zoom - 6.0) * 0.09 + 0.55, 0.6, 1.7) * ratio * (1.0 + picked * 0.55) * 2.0;
  gl_PointSize = look.w > 0.5 ? 0.0 : pixels;
  if (look.w > 0.5) gl_Position = vec4(2.0, 2.0, 0.0, 1.0);
  hue = palette[int(look.z)];
}`;

const FRAGMENT = `
precision mediump float;
uniform vec3 edge;
varying vec3 hue; varying float heading; varying float moving; varying float picked; varying float pixels;
void main() {
  vec2 p = (gl_PointCoord - 0.5) * 2.0;
  float c = cos(heading), s = sin(heading);
  vec2 q = vec2(p.x * c + p.y * s, -p.x * s + p.y * c); // heading 0 = north = -y
  float soft = 3.0 / pixels;
  float disc = length(q) - 0.46;
  float wedge = max(abs(q.x) * 0.88 - (q.y + 0.86) * 0.48, q.y + 0.05);
  float shape = min(disc, mix(1.0, wedge, moving));
  float body = 1.0 - smoothstep(-soft, 0.0, shape);
  float rim = 1.0 - smoothstep(0.10 - soft, 0.10, shape);
  float halo = picked * 0.30 * (1.0 - smoothstep(0.86, 0.98, length(p)));
  float alpha = max(rim, halo);
  if (alpha < 0.01) discard;
  vec3 colour = mix(rim > halo ? edge : hue, hue, max(body, rim > halo ? 0.0 : 1.0));
  gl_FragColor = vec4(colour * alpha, alpha);
}`;

export const mercatorX = (longitude) => (180 + longitude) / 360;
export const mercatorY = (latitude) => (180 - (180 / Math.PI) * Math.log(Math.tan(Math.PI / 4 + (latitude * Math.PI) / 360))) / 360;
const SIZES = { car: 13, van: 15, moped: 11, bicycle: 10, standing_scooter: 9 };

export class FleetLayer {
  constructor(map) {
    this.map = map;
    this.count = 0; this.capacity = 0; this.chosen = -1; this.started = performance.now();
    this.origin = null; // positions are float32 offsets from here: exact to centimetres within a region
    this.canvas = document.createElement("canvas");
    this.canvas.className = "vehicles";
    map.getCanvasContainer().append(this.canvas);
    this.gl = this.canvas.getContext("webgl", { antialias: false, alpha: true, depth: false, stencil: false, powerPreference: "low-power" });
    this.prepare();
    this.grow(1024);
    this.resize();
    map.on("resize", () => this.resize());
    map.on("move", () => { this.dirty = true; });
    this.canvas.addEventListener("webglcontextlost", (event) => { event.preventDefault(); this.lost = true; });
    this.canvas.addEventListener("webglcontextrestored", () => { this.lost = false; this.prepare(); this.dirtyData = true; });
    this.frame = this.frame.bind(this);
    requestAnimationFrame(this.frame);
  }

  prepare() {
    const gl = this.gl;
    const compile = (kind, source) => {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, source); gl.compileShader(shader);
      if (!gl.getShaderParameter(shader, gl.COMPILE_STATUS)) throw new Error(gl.getShaderInfoLog(shader));
      return shader;
    };
    const program = gl.createProgram();
    gl.attachShader(program, compile(gl.VERTEX_SHADER, VERTEX));
    gl.attachShader(program, compile(gl.FRAGMENT_SHADER, FRAGMENT));
    gl.linkProgram(program);
    gl.useProgram(program);
    gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
    const bytes = STRIDE * 4;
    [["from", 2, 0], ["to", 2, 2], ["motion", 4, 4], ["look", 4, 8], ["slot", 1, 12]].forEach(([name, size, offset]) => {
      const place = gl.getAttribLocation(program, name);
      gl.enableVertexAttribArray(place);
      gl.vertexAttribPointer(place, size, gl.FLOAT, false, bytes, offset * 4);
    });
    this.uniform = Object.fromEntries(["centre", "scale", "now", "ratio", "zoom", "chosen", "palette", "edge"].map((name) => [name, gl.getUniformLocation(program, name)]));
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
    if (this.palette) this.colours(this.palette, this.edge);
  }

  grow(capacity) {
    const data = new Float32Array(capacity * STRIDE);
    if (this.data) data.set(this.data);
    this.data = data; this.capacity = capacity; this.dirtyData = true;
  }

  /** Up to 16 colours as [r, g, b] in 0..1, and the colour of the rim. */
  colours(palette, edge) {
    this.palette = palette; this.edge = edge;
    const flat = new Float32Array(48);
    palette.slice(0, 16).forEach((colour, index) => flat.set(colour, index * 3));
    this.gl.uniform3fv(this.uniform.palette, flat);
    this.gl.uniform3fv(this.uniform.edge, edge);
    this.dirty = true;
  }

  clear() { this.count = 0; this.data.fill(0); this.dirtyData = true; }

  now() { return (performance.now() - this.started) / 1000; }

  /** Where vehicle `index` is drawn at this moment, in mercator units relative to the origin. */
  at(index, now = this.now()) {
    const d = this.data, o = index * STRIDE;
    const part = Math.min(1, Math.max(0, (now - d[o + 4]) / d[o + 5]));
    return [d[o] + (d[o + 2] - d[o]) * part, d[o + 1] + (d[o + 3] - d[o + 1]) * part];
  }

  move(index, longitude, latitude, speed) {
    if (index >= this.capacity) this.grow(Math.max(this.capacity * 2, index + 1));
    const mx = mercatorX(longitude), my = mercatorY(latitude);
    this.origin ??= [mx, my];
    const d = this.data, o = index * STRIDE, now = this.now(), isNew = d[o + 5] === 0;
    const x = mx - this.origin[0], y = my - this.origin[1];
    const part = isNew ? 0 : Math.min(1, Math.max(0, (now - d[o + 4]) / d[o + 5]));
    const fx = isNew ? x : d[o] + (d[o + 2] - d[o]) * part, fy = isNew ? y : d[o + 1] + (d[o + 3] - d[o + 1]) * part;
    const far = Math.hypot(x - fx, y - fy) > 5e-5; // two kilometres: a jump, not a drive
    d[o] = far ? x : fx; d[o + 1] = far ? y : fy; d[o + 2] = x; d[o + 3] = y; d[o + 4] = now; d[o + 5] = GLIDE_S;
    const step = Math.hypot(x - d[o], y - d[o + 1]);
    d[o + 6] = d[o + 7];
    if (step > 2e-8) { d[o + 7] = Math.atan2(x - d[o], -(y - d[o + 1])); if (isNew) d[o + 6] = d[o + 7]; }
    d[o + 8] = speed < 0 ? (step > 2e-8 ? 10 : 0) : speed;
    d[o + 12] = index;
    this.count = Math.max(this.count, index + 1);
    this.dirtyData = true;
  }

  look(index, kind, slot, hidden) {
    if (index >= this.capacity) this.grow(Math.max(this.capacity * 2, index + 1));
    const d = this.data, o = index * STRIDE;
    d[o + 9] = SIZES[kind] ?? 12; d[o + 10] = slot; d[o + 11] = hidden || d[o + 5] === 0 ? 1 : 0;
    this.dirtyData = true;
  }

  /** Take a vehicle off the map: its place may not be shown any more. */
  remove(index) {
    const o = index * STRIDE;
    this.data[o + 5] = 0; this.data[o + 11] = 1;
    if (this.chosen === index) this.chosen = -1;
    this.dirtyData = true;
  }

  isPlaced(index) { return index < this.count && this.data[index * STRIDE + 5] > 0; }
  isShown(index) { return this.isPlaced(index) && this.data[index * STRIDE + 11] === 0; }

  choose(index) { this.chosen = index; this.dirty = true; }

  speed(index) { return this.data[index * STRIDE + 8]; }
  lngLat(index) {
    const [x, y] = this.at(index);
    const mx = x + this.origin[0], my = y + this.origin[1];
    return [mx * 360 - 180, (360 / Math.PI) * Math.atan(Math.exp(((180 - my * 360) * Math.PI) / 180)) - 90];
  }

  /** What lies in the middle of the canvas: the map's own centre is elsewhere while a panel covers a part of it. */
  middle() { return this.map.unproject([this.canvas.clientWidth / 2, this.canvas.clientHeight / 2]); }

  /** Index of the vehicle drawn nearest to a point of the map, within `reach` pixels, or -1. */
  nearest(point, reach = 18) {
    if (!this.origin) return -1;
    const world = 512 * 2 ** this.map.getZoom(), centre = this.middle();
    const cx = mercatorX(centre.lng) - this.origin[0], cy = mercatorY(centre.lat) - this.origin[1], now = this.now();
    const x = (point.x - this.canvas.clientWidth / 2) / world + cx, y = (point.y - this.canvas.clientHeight / 2) / world + cy;
    let best = -1, least = (reach / world) ** 2;
    for (let index = 0; index < this.count; index++) {
      if (!this.isShown(index)) continue;
      const [vx, vy] = this.at(index, now), apart = (vx - x) ** 2 + (vy - y) ** 2;
      if (apart < least) { least = apart; best = index; }
    }
    return best;
  }

  resize() {
    const ratio = Math.min(2, devicePixelRatio || 1), box = this.map.getContainer();
    this.canvas.width = box.clientWidth * ratio; this.canvas.height = box.clientHeight * ratio;
    this.gl.viewport(0, 0, this.canvas.width, this.canvas.height);
    this.dirty = true;
  }

  frame() {
    requestAnimationFrame(this.frame);
    const now = this.now();
    if (this.dirtyData) this.busyUntil = now + GLIDE_S;
    if (this.lost || !this.origin || !(this.dirty || this.dirtyData || now < this.busyUntil)) return;
    const gl = this.gl, centre = this.middle(), world = 512 * 2 ** this.map.getZoom();
    if (this.dirtyData) gl.bufferData(gl.ARRAY_BUFFER, this.data.subarray(0, this.count * STRIDE), gl.DYNAMIC_DRAW);
    this.dirty = this.dirtyData = false;
    gl.uniform2f(this.uniform.centre, mercatorX(centre.lng) - this.origin[0], mercatorY(centre.lat) - this.origin[1]);
    gl.uniform2f(this.uniform.scale, (2 * world) / this.canvas.clientWidth, (-2 * world) / this.canvas.clientHeight);
    gl.uniform1f(this.uniform.now, now);
    gl.uniform1f(this.uniform.ratio, Math.min(2, devicePixelRatio || 1));
    gl.uniform1f(this.uniform.zoom, this.map.getZoom());
    gl.uniform1f(this.uniform.chosen, this.chosen);
    gl.clearColor(0, 0, 0, 0); gl.clear(gl.COLOR_BUFFER_BIT);
    gl.drawArrays(gl.POINTS, 0, this.count);
    this.frames = (this.frames ?? 0) + 1;
  }
}
