// Draws in the book the graphs that GitHub draws by itself. Of Mermaid it reads no more than they need: `a --> b` is an arrow, `a -.-> b` a dotted one.
'use strict';

const [WIDTH, ROW, BOX] = [900, 100, [110, 36]];

function edges(text) {
  return [...text.matchAll(/(\w+) (--|-\.-)> (\w+)/g)].map(([, from, line, to]) => ({ from, to, dotted: line !== '--' }));
}

// Where each name stands: above all that it leads to, and about below those that lead to it; at the right if none does.
function places(edges) {
  const height = name => Math.max(0, ...edges.filter(edge => edge.from === name).map(edge => height(edge.to) + 1));
  const rows = [];
  for (const name of new Set(edges.flatMap(({ from, to }) => [from, to]))) (rows[height(name)] ??= []).push(name);
  const placed = new Map();
  rows.reverse().forEach((row, down) => {
    const middle = name => {
      const above = edges.filter(({ to, dotted }) => to === name && !dotted).map(({ from }) => placed.get(from).x);
      return above.length ? above.reduce((sum, x) => sum + x) / above.length : WIDTH;
    };
    row.sort((one, other) => middle(one) - middle(other));
    row.forEach((name, at) => placed.set(name, { x: WIDTH * (at + 0.5) / row.length, y: ROW * (down + 0.5) }));
  });
  return placed;
}

function drawn(text) {
  const [lines, [wide, high]] = [edges(text), BOX];
  const placed = places(lines);
  const line = ({ from, to, dotted }) => {
    const [a, b] = [placed.get(from), placed.get(to)];
    const [top, end] = [a.y + high / 2, b.y - high / 2 - 3];
    const path = `M${a.x},${top} C${a.x},${top + ROW / 2} ${b.x},${end - ROW / 2} ${b.x},${end}`;
    return `<path d="${path}" marker-end="url(#tip)" ${dotted ? 'stroke-dasharray="2 4" opacity=".6"' : ''}/>`;
  };
  const box = ([name, { x, y }]) =>
    `<rect x="${x - wide / 2}" y="${y - high / 2}" width="${wide}" height="${high}" rx="6" fill="var(--bg)"/>
     <text x="${x}" y="${y}" text-anchor="middle" dominant-baseline="central" fill="currentColor" stroke="none">${name}</text>`;
  const size = `0 0 ${WIDTH} ${Math.max(...[...placed.values()].map(({ y }) => y)) + ROW / 2}`;
  return `<svg viewBox="${size}" fill="none" stroke="currentColor" font-size="17" role="img">
    <marker id="tip" viewBox="0 0 8 8" refX="5" refY="4" markerWidth="7" markerHeight="7" orient="auto"><path d="M0,0 L8,4 L0,8 z" fill="currentColor"/></marker>
    ${lines.map(line).join('')}${[...placed].map(box).join('')}</svg>`;
}

for (const code of document.querySelectorAll('code.language-mermaid')) {
  code.closest('pre').outerHTML = drawn(code.textContent);
}
