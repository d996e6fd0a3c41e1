// Prometheus text to numbers, as far as /metrics of this server goes.

const LINE = /^([\w:]+)(?:\{(.*)\})? (\S+)$/;

/** `value(name)`: a counter or gauge, its labels summed; `value(name, labels)`: with these alone. `histogram(name)`: `{ bounds, counts, sum, count }`. */
export function parse(text) {
  const values = new Map();
  const buckets = new Map();
  for (const line of text.split("\n")) {
    const match = line.startsWith("#") ? null : LINE.exec(line);
    if (!match) continue;
    const [, name, labels, number] = match;
    const bound = /le="([^"]+)"/.exec(labels ?? "")?.[1];
    if (bound && name.endsWith("_bucket")) {
      const family = name.slice(0, -"_bucket".length);
      if (!buckets.has(family)) buckets.set(family, []);
      buckets.get(family).push([bound === "+Inf" ? Infinity : Number(bound), Number(number)]);
    } else {
      values.set(name, (values.get(name) ?? 0) + Number(number));
      if (labels) values.set(`${name}{${labels}}`, Number(number));
    }
  }
  const value = (name, labels) => values.get(labels ? `${name}{${labels}}` : name) ?? 0;
  const histogram = (name) => {
    const pairs = buckets.get(name) ?? [];
    return {
      bounds: pairs.map(([bound]) => bound),
      counts: pairs.map(([, below], i) => below - (i > 0 ? pairs[i - 1][1] : 0)),
      sum: value(`${name}_sum`),
      count: value(`${name}_count`),
    };
  };
  return { value, histogram };
}

/** The bound under which `share` of the values lie; 0 without values. */
export function quantile({ bounds, counts, count }, share) {
  let below = 0;
  for (const [i, n] of counts.entries()) {
    below += n;
    if (n > 0 && below >= share * count) return bounds[i] === Infinity ? bounds[i - 1] : bounds[i];
  }
  return 0;
}
