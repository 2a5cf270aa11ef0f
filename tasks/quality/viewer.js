"use strict";
// A small WebGL 2 viewer: orbit, pan-free zoom, texture or clay. No library, no network.
(() => {
  const root = document.getElementById("viewer");
  const source = document.getElementById("viewer-data");
  if (!root || !source) return;
  const canvas = root.querySelector("canvas");
  const gl = canvas.getContext("webgl2", { antialias: true, alpha: true });
  if (!gl) return; // the stills stay
  const data = JSON.parse(source.textContent);

  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const shader = (kind, text) => {
    const made = gl.createShader(kind);
    gl.shaderSource(made, text);
    gl.compileShader(made);
    return made;
  };
  const program = gl.createProgram();
  gl.attachShader(program, shader(gl.VERTEX_SHADER, `#version 300 es
    in vec3 position; in vec3 normal; in vec2 uv; in vec3 color;
    uniform mat4 view; uniform mat4 projection; uniform vec2 uvStart; uniform vec2 uvSpan;
    out vec3 n; out vec3 eye; out vec2 st; out vec3 c;
    void main() {
      vec4 p = view * vec4(position - 0.5, 1.0);
      n = mat3(view) * normal; eye = p.xyz; st = uvStart + uv * uvSpan; c = color;
      gl_Position = projection * p;
    }`));
  gl.attachShader(program, shader(gl.FRAGMENT_SHADER, `#version 300 es
    precision highp float;
    in vec3 n; in vec3 eye; in vec2 st; in vec3 c;
    uniform sampler2D image; uniform bool textured; uniform bool clay;
    out vec4 result;
    void main() {
      vec3 m = normalize(n), v = normalize(-eye);
      if (dot(m, v) < 0.0) m = -m;
      float key = max(dot(m, normalize(vec3(0.4, 0.7, 0.6))), 0.0);
      float fill = 0.5 + 0.5 * m.y;
      vec3 base = clay ? vec3(0.80, 0.78, 0.75) : (textured ? texture(image, vec2(st.x, 1.0 - st.y)).rgb : c);
      float light = clay ? 0.25 + 0.6 * key + 0.2 * fill : 0.80 + 0.16 * key + 0.06 * fill;
      result = vec4(base * light, 1.0);
    }`));
  gl.linkProgram(program);
  if (!gl.getProgramParameter(program, gl.LINK_STATUS)) return;
  gl.useProgram(program);

  const attribute = (name, text, size, type, stride, normalized) => {
    const at = gl.getAttribLocation(program, name);
    if (at < 0 || !text) return;
    gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
    gl.bufferData(gl.ARRAY_BUFFER, bytes(text), gl.STATIC_DRAW);
    gl.enableVertexAttribArray(at);
    gl.vertexAttribPointer(at, size, type, normalized, stride, 0);
  };
  attribute("position", data.positions, 3, gl.UNSIGNED_SHORT, 8, true);
  attribute("normal", data.normals, 3, gl.BYTE, 4, true);
  attribute("uv", data.uv, 2, gl.UNSIGNED_SHORT, 4, true);
  attribute("color", data.colors, 3, gl.UNSIGNED_BYTE, 4, true);
  const indices = new Uint32Array(bytes(data.indices).buffer);
  gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, gl.createBuffer());
  gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, indices, gl.STATIC_DRAW);
  const uniform = (name) => gl.getUniformLocation(program, name);
  gl.uniform2fv(uniform("uvStart"), data.uv_start || [0, 0]);
  gl.uniform2fv(uniform("uvSpan"), data.uv_span || [1, 1]);
  gl.uniform1i(uniform("textured"), data.texture ? 1 : 0);
  gl.enable(gl.DEPTH_TEST);

  const radius = Math.hypot(...data.extent) / 2;
  const home = { yaw: data.yaw, pitch: 0.35, distance: radius * 2.9 };
  let { yaw, pitch, distance } = home;
  let clay = false, pending = false;

  function draw() {
    pending = false;
    const scale = Math.min(window.devicePixelRatio || 1, 2);
    const w = Math.round(canvas.clientWidth * scale), h = Math.round(canvas.clientHeight * scale);
    if (canvas.width !== w || canvas.height !== h) { canvas.width = w; canvas.height = h; }
    gl.viewport(0, 0, w, h);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    const f = 1 / Math.tan(0.3), narrow = Math.min(1, w / h), near = distance / 100, far = distance * 4 + 4;
    gl.uniformMatrix4fv(uniform("projection"), false, [
      f * narrow * h / w, 0, 0, 0, 0, f * narrow, 0, 0,
      0, 0, (far + near) / (near - far), -1, 0, 0, 2 * far * near / (near - far), 0]);
    const cy = Math.cos(yaw), sy = Math.sin(yaw), cp = Math.cos(pitch), sp = Math.sin(pitch);
    gl.uniformMatrix4fv(uniform("view"), false, [
      cy, -sp * sy, cp * sy, 0, 0, cp, sp, 0, -sy, -sp * cy, cp * cy, 0, 0, 0, -distance, 1]);
    gl.uniform1i(uniform("clay"), clay ? 1 : 0);
    gl.drawElements(gl.TRIANGLES, indices.length, gl.UNSIGNED_INT, 0);
  }
  const redraw = () => { if (!pending) { pending = true; requestAnimationFrame(draw); } };
  const turn = (dx, dy) => {
    yaw -= dx; pitch = Math.max(-1.55, Math.min(1.55, pitch + dy)); redraw();
  };
  const zoom = (factor) => {
    distance = Math.max(radius * 0.6, Math.min(radius * 12, distance * factor)); redraw();
  };

  const fingers = new Map();
  const spread = () => {
    const [a, b] = [...fingers.values()];
    return Math.hypot(a[0] - b[0], a[1] - b[1]);
  };
  canvas.addEventListener("pointerdown", (e) => {
    canvas.setPointerCapture(e.pointerId);
    fingers.set(e.pointerId, [e.clientX, e.clientY]);
  });
  canvas.addEventListener("pointermove", (e) => {
    const last = fingers.get(e.pointerId);
    if (!last) return;
    const before = fingers.size === 2 ? spread() : 0;
    fingers.set(e.pointerId, [e.clientX, e.clientY]);
    if (fingers.size === 1) turn((e.clientX - last[0]) * 0.008, (e.clientY - last[1]) * 0.008);
    else if (fingers.size === 2) zoom(before / Math.max(spread(), 1));
  });
  for (const name of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(name, (e) => fingers.delete(e.pointerId));
  }
  canvas.addEventListener("wheel", (e) => { e.preventDefault(); zoom(Math.exp(e.deltaY * 0.001)); }, { passive: false });
  const reset = () => { ({ yaw, pitch, distance } = home); redraw(); };
  canvas.addEventListener("dblclick", reset);
  const keys = {
    ArrowLeft: () => turn(-0.12, 0), ArrowRight: () => turn(0.12, 0), ArrowUp: () => turn(0, -0.12),
    ArrowDown: () => turn(0, 0.12), "+": () => zoom(0.9), "-": () => zoom(1.1), 0: reset,
  };
  canvas.addEventListener("keydown", (e) => {
    if (keys[e.key]) { e.preventDefault(); keys[e.key](); }
  });
  root.querySelector("[data-act=clay]").addEventListener("click", (e) => {
    clay = !clay; e.currentTarget.setAttribute("aria-pressed", String(clay)); redraw();
  });
  root.querySelector("[data-act=reset]").addEventListener("click", reset);
  new ResizeObserver(redraw).observe(canvas);

  function show() { root.classList.add("live"); redraw(); }
  if (!data.texture) { show(); return; }
  const image = new Image();
  image.onload = () => {
    gl.bindTexture(gl.TEXTURE_2D, gl.createTexture());
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGB, gl.RGB, gl.UNSIGNED_BYTE, image);
    gl.generateMipmap(gl.TEXTURE_2D);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.LINEAR_MIPMAP_LINEAR);
    show();
  };
  image.src = data.texture;
})();
