// Draws the charts of a page with Chart.js, in the colours of the page.
//
// A canvas has them in data-chart, as JSON:
//   {"type": "line" | "stack" | "bar" | "pie" | "points",   stack: areas, one upon another
//    "labels": [...],                      names, or milliseconds since 1970 where "time" is true
//    "series": [{"name", "values": [...], "color"?: "good" | "warn" | "bad" | "soft" | a number from 0 to 7}],
//    "time"?: true, "from"?, "to"?,        the ends of the time axis
//    "joined"?: true,                      values come now and then: each is a dot, joined with the next of its series
//    "names"?: [...],                      what the values of each label are about, for who points at them
//    "unit"?: "ms" | "s" | "%" | "/s" | "MB" | ..., "min"?, "max"?}
"use strict";

const charts = (() => {
  const drawn = new Map();
  const small = matchMedia("(max-width: 40rem)");
  const calm = matchMedia("(prefers-reduced-motion: reduce)");
  const dark = matchMedia("(prefers-color-scheme: dark)");

  const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const color = (series, at) => {
    const wanted = series.color ?? at % 8;
    return style(typeof wanted === "number" ? `--series-${wanted % 8}` : `--${wanted}`);
  };
  const soft = (text) => `${text}4d`; // all are written as #rrggbb

  function figure(value, unit) {
    if (value === null || value === undefined || Number.isNaN(value)) return "–";
    if (unit === "ms" && Math.abs(value) >= 1000) return `${+(value / 1000).toPrecision(3)} s`;
    if (unit === "%") return `${+(value * 100).toPrecision(3)} %`;
    const text = Math.abs(value) >= 1e4 ? new Intl.NumberFormat("en", { notation: "compact" }).format(value) : `${+value.toPrecision(4)}`;
    return unit ? `${text}${unit.startsWith("/") ? "" : " "}${unit}` : text;
  }

  // Between two gaps there is no line: a dot shows the value.
  const alone = (values, i) => (values[i - 1] ?? null) === null && (values[i + 1] ?? null) === null;

  const days = (spec) => ((spec.to ?? spec.labels.at(-1)) - (spec.from ?? spec.labels[0])) / 86400000;

  function dataset(spec, series, at) {
    const line = color(series, at);
    const pie = spec.type === "pie";
    const each = spec.series.length === 1 && (pie || spec.colors);
    return {
      label: series.name,
      data: spec.time ? series.values.map((y, i) => ({ x: spec.labels[i], y })) : series.values,
      borderColor: pie ? style("--card") : line,
      backgroundColor: each ? series.values.map((_, i) => color({ color: spec.colors?.[i] }, i)) : spec.type === "stack" ? soft(line) : line,
      borderWidth: spec.type === "bar" ? 0 : 1.5,
      fill: spec.type === "stack" ? (at ? "-1" : "origin") : false,
      pointRadius: spec.type === "points" ? (spec.labels.length > 100 ? 2.5 : 4) : series.values.map((_, i) => (spec.joined || alone(series.values, i) ? 2.5 : 0)),
      pointHitRadius: 8,
      showLine: spec.type !== "points" || !!spec.joined,
      tension: spec.joined ? 0 : 0.2,
      spanGaps: !!spec.joined,
      maxBarThickness: 48,
    };
  }

  const NARROW = 420; // pixels: a pie has no room for its names beside it

  function options(spec, width) {
    const pie = spec.type === "pie", ink = style("--soft-ink"), rule = style("--line");
    const amount = {
      beginAtZero: spec.min === undefined && spec.type !== "line" && spec.type !== "points" ? true : spec.min === 0 || spec.type !== "points",
      stacked: spec.type === "stack", min: spec.min, suggestedMax: spec.max,
      grid: { color: rule }, border: { display: false },
      ticks: { color: ink, maxTicksLimit: 6, callback: (value) => figure(value, spec.unit) },
    };
    const names = spec.time
      ? { type: "time", min: spec.from, max: spec.to, grid: { display: false }, border: { color: rule },
          time: { displayFormats: { millisecond: "HH:mm:ss", second: "HH:mm:ss", minute: "HH:mm", hour: days(spec) > 1.5 ? "MMM d, HH:mm" : "HH:mm", day: "MMM d" }, tooltipFormat: "MMM d, HH:mm:ss" },
          ticks: { color: ink, maxRotation: 0, autoSkipPadding: 16 } }
      : { type: "category", stacked: spec.type === "stack", grid: { display: false }, border: { color: rule },
          ticks: { color: ink, maxRotation: 50, callback(value) { const text = String(this.getLabelForValue(value)); return text.length > 24 ? `${text.slice(0, 23)}…` : text; } } };
    return {
      animation: false, responsive: true, maintainAspectRatio: false,
      interaction: pie ? {} : { mode: "index", intersect: false, axis: "x" },
      scales: pie ? {} : { x: names, y: amount },
      plugins: {
        legend: { display: pie || spec.series.length > 1, position: pie && width > NARROW ? "right" : "bottom", labels: { color: style("--ink"), boxWidth: 12, boxHeight: 12 } },
        tooltip: { callbacks: { afterTitle: (items) => (items.length && spec.names?.[items[0].dataIndex]) || undefined, label: (item) => ` ${pie ? item.label : item.dataset.label}: ${figure(pie ? item.parsed : item.parsed.y, spec.unit)}` } },
      },
    };
  }

  const KINDS = { line: "line", stack: "line", points: "line", bar: "bar", pie: "doughnut" };

  function draw(canvas) {
    const spec = JSON.parse(canvas.dataset.chart);
    const data = { labels: spec.time ? undefined : spec.labels, datasets: spec.series.map((each, at) => dataset(spec, each, at)) };
    const known = drawn.get(canvas);
    if (known && known.config.type === KINDS[spec.type]) {
      known.data = data;
      known.options = options(spec, canvas.parentElement.clientWidth);
      known.update("none");
      return;
    }
    drop(canvas);
    drawn.set(canvas, new Chart(canvas, { type: KINDS[spec.type], data, options: options(spec, canvas.parentElement.clientWidth) }));
  }

  function drop(canvas) {
    drawn.get(canvas)?.destroy();
    drawn.delete(canvas);
  }

  function again() {
    for (const canvas of [...drawn.keys()]) {
      if (canvas.isConnected) draw(canvas);
      else drop(canvas);
    }
  }

  // Chart.js is large: it comes when the first chart is there, so that no page waits for it.
  const source = document.currentScript.dataset.library;
  let coming = null;

  function library() {
    coming ??= new Promise((resolve) => {
      const script = document.createElement("script");
      script.src = source;
      script.onload = () => {
        Chart.defaults.font.family = "system-ui, sans-serif";
        Chart.defaults.font.size = 12;
        if (calm.matches) Chart.defaults.animation = false;
        dark.addEventListener("change", again);
        small.addEventListener("change", again);
        resolve();
      };
      script.onerror = () => { coming = null; }; // the next chart tries again
      document.head.append(script);
    });
    return coming;
  }

  return {
    draw: (canvas) => (window.Chart ? draw(canvas) : library().then(() => { if (canvas.isConnected) draw(canvas); })),
    drop,
  };
})();
