// Files that were chosen, dropped or pasted: told apart, and brought to the size that the server takes.
import { make } from "/kit.js";

const LEAST_OF_BODY = 4096; // bytes around the picture in a request
let last = 0;

// -> { name, blob, url, width, height, note }, or throws an Error that names a file that is no picture.
// A picture that the browser cannot show, such as a TIFF, is left to the server; its width is 0 then.
export async function picture(file, limits) {
  const name = file.name || `pasted ${++last}`;
  const bitmap = await createImageBitmap(file).catch(() => null);
  if (!bitmap && !file.type.startsWith("image/")) throw new Error(`${name} is not a picture.`);
  if (!bitmap) return { name, blob: file, url: "", width: 0, height: 0, note: "" };
  const { width, height } = bitmap;
  const most = limits.bytes - LEAST_OF_BODY;
  const fits = width * height <= limits.pixels && file.size <= most;
  const sent = fits ? { blob: file, width, height } : await reduced(bitmap, limits.pixels, most);
  bitmap.close();
  const sizes = `${width} × ${height} pixels, sent as ${sent.width} × ${sent.height}`;
  const note = fits ? "" : `${name} is too large for the server: ${sizes}.`;
  return { name, note, url: URL.createObjectURL(sent.blob), ...sent };
}

// Without loss where that fits, and smaller until it does.
async function reduced(bitmap, pixels, bytes) {
  let scale = Math.min(1, Math.sqrt(pixels / (bitmap.width * bitmap.height)));
  for (;;) {
    const canvas = make("canvas");
    canvas.width = Math.max(1, Math.floor(bitmap.width * scale));
    canvas.height = Math.max(1, Math.floor(bitmap.height * scale));
    const context = canvas.getContext("2d");
    context.imageSmoothingQuality = "high";
    context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
    for (const [kind, quality] of [["image/png"], ["image/webp", 0.95]]) {
      const blob = await new Promise((resolve) => canvas.toBlob(resolve, kind, quality));
      if (blob && blob.size <= bytes) return { blob, width: canvas.width, height: canvas.height };
    }
    scale *= 0.7;
  }
}
