"""What a page must have for people who see little or nothing: checked in the page itself, by WCAG 2.2 AA."""

FAULTS = """() => {
  const faults = [], brush = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    brush.clearRect(0, 0, 1, 1);
    brush.fillStyle = colour;
    brush.fillRect(0, 0, 1, 1);
    return [...brush.getImageData(0, 0, 1, 1).data];
  };
  const over = ([r, g, b, a], under) => [r, g, b].map((part, n) => (part * a + under[n] * (255 - a)) / 255);
  const ground = (element) => {
    if (!element) return [255, 255, 255];
    return over(rgba(getComputedStyle(element).backgroundColor), ground(element.parentElement));
  };
  const light = (colour) => {
    const [r, g, b] = colour.map((part) => {
      const share = part / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const isSeen = (element) => element.checkVisibility({ visibilityProperty: true, opacityProperty: true });
  for (const element of document.body.querySelectorAll("*:not(svg *)")) {
    const isText = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!isText || !isSeen(element) || element.closest(":disabled")) continue;
    const style = getComputedStyle(element), under = ground(element);
    const both = [light(over(rgba(style.color), under)), light(under)].sort((a, b) => b - a);
    const least = parseFloat(style.fontSize) >= 24 ? 3 : 4.5, ratio = (both[0] + 0.05) / (both[1] + 0.05);
    if (ratio < least) faults.push(`${element.outerHTML.slice(0, 80)}: contrast ${ratio.toFixed(2)}`);
  }
  for (const element of document.querySelectorAll("button, input, select, textarea, a, img, section, [role=img]")) {
    const by = [element.ariaLabel, element.alt, element.labels?.[0]?.textContent, element.textContent, element.title];
    const isNamed = by.some((text) => text?.trim()) || element.alt === "" && element.closest("[aria-label]");
    if (isSeen(element) && !isNamed) faults.push(`${element.outerHTML.slice(0, 80)}: no name`);
  }
  const ids = [...document.querySelectorAll("[id]")].map((element) => element.id);
  return [...faults, ...ids.filter((id, n) => ids.indexOf(id) !== n).map((id) => `two elements are called ${id}`)];
}"""
"""Script that returns what is wrong: text of too little contrast, controls without a name, an id used twice."""
