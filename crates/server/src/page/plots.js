// The last hour, drawn: how long after its commit a change is in history and on sockets, and the WAL that the slot keeps.

/* global uPlot */
import { byId, bytes, seconds } from "./dom.js";

const HEIGHT = 170;
const SPAN_MIN = 300; // seconds, so that the first samples do not stand for years
const plots = new Map();
let last = { samples: [] };
const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

export function showPlots(recent) {
  last = recent;
  const samples = recent.samples.length > 0 ? recent.samples : [{ at_ms: Date.now() - SPAN_MIN * 1000 }, { at_ms: Date.now() }];
  const times = samples.map((sample) => sample.at_ms / 1000);
  const of = (field) => samples.map((sample) => sample[field] ?? null);
  draw("lag-plot", [
    { label: "commit to history", stroke: color("--first"), value: (_, value) => seconds(value) },
    { label: "commit to socket, p99", stroke: color("--second"), value: (_, value) => seconds(value) },
  ], seconds, [times, of("lag_seconds"), of("delivery_p99_seconds")]);
  draw("wal-plot", [
    { label: "kept", stroke: color("--first"), fill: color("--fill"), value: (_, value) => bytes(value) },
    { label: "the slot is lost here", stroke: color("--bad"), dash: [6, 4], value: (_, value) => (value === null ? "no limit" : bytes(value)) },
  ], bytes, [times, of("retained_bytes"), of("limit_bytes")]);
}

/** The hour, or as much of it as there is. Of a single sample uPlot would make years. */
function span(plot, low, high) {
  const end = Math.min(high, plot.data[0].at(-1));
  return [Math.min(low, end - SPAN_MIN), end];
}

function draw(id, series, unit, data) {
  const place = byId(id);
  const known = plots.get(id);
  if (known) return known.setData(data);
  const axis = { stroke: color("--soft"), grid: { stroke: color("--line"), width: 1 }, ticks: { stroke: color("--line"), width: 1 } };
  const options = {
    width: place.clientWidth, height: HEIGHT,
    scales: { x: { range: span }, y: { range: (_, low, high) => [0, Math.max(high ?? 0, low ?? 0) * 1.1 || 1] } },
    series: [{}, ...series.map((one) => ({ width: 1.5, spanGaps: false, points: { show: false }, ...one }))],
    axes: [axis, { ...axis, size: 64, values: (_, ticks) => ticks.map(unit) }],
  };
  plots.set(id, new uPlot(options, data, place));
}

new ResizeObserver(() => {
  for (const [id, plot] of plots) plot.setSize({ width: byId(id).clientWidth, height: HEIGHT });
}).observe(document.body);
// Colours are drawn, not styled.
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const plot of plots.values()) plot.destroy();
  plots.clear();
  showPlots(last);
});
