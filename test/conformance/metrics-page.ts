/** One line of a metrics page: a value under a name with labels. */
export interface Sample {
  name: string;
  labels: Record<string, string>;
  value: number;
}

const namePattern = /^[a-z_:][a-z0-9_:]*$/;
const linePattern = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$/;
const labelPattern = /([a-zA-Z_]\w*)="((?:[^"\\\n]|\\["\\n])*)"(?:,|$)/y;
/** Gauges whose names by prom-client break the rule; dashboards use these names. */
const misnamed = /^nodejs_active_(resources|handles|requests)_total$/;
const types = ['counter', 'gauge', 'histogram', 'summary'];

/** Reads the metrics page of a service, whose admin port is host:port `admin`. `type` is the content type. */
export async function metricsOf(admin: string) {
  const response = await fetch(`http://${admin}/metrics`);
  return { type: response.headers.get('content-type'), ...readMetrics(await response.text()) };
}

/** Parses the Prometheus text format and reports the problems that promtool would report, in the main. */
export function readMetrics(page: string): { samples: Sample[]; problems: string[] } {
  const problems: string[] = [];
  const samples: Sample[] = [];
  const help = new Map<string, string>();
  const type = new Map<string, string>();
  const seen = new Set<string>();
  if (!page.endsWith('\n')) problems.push('the last line does not end');
  for (const line of page.split('\n').filter((one) => one !== '')) {
    const comment = /^# (HELP|TYPE) (\S+) (.+)$/.exec(line);
    if (comment) {
      const [, kind, name = '', text = ''] = comment;
      const known = kind === 'HELP' ? help : type;
      if (known.has(name)) problems.push(`${kind} of ${name} stands twice`);
      known.set(name, text);
      continue;
    }
    const sample = readSample(line);
    if (!sample) problems.push(`not a sample: ${line}`);
    else if (seen.has(keyOf(sample))) problems.push(`twice: ${line}`);
    else {
      seen.add(keyOf(sample));
      samples.push(sample);
      const family = familyOf(sample.name, type);
      if (!type.has(family)) problems.push(`no TYPE before ${line}`);
    }
  }
  for (const [name, kind] of type) {
    if (!types.includes(kind)) problems.push(`${name} is of a type that is none: ${kind}`);
    if (!namePattern.test(name)) problems.push(`${name} is not in lower case`);
    if ((help.get(name) ?? '').length < 8) problems.push(`${name} has no help`);
    if (kind === 'counter' && !name.endsWith('_total')) problems.push(`${name} is a counter, which ends in _total`);
    if (kind !== 'counter' && name.endsWith('_total') && !misnamed.test(name))
      problems.push(`${name} ends in _total and is no counter`);
    if (/_(ms|millis|milliseconds|kb|mb)(_|$)/.test(name)) problems.push(`${name} is not in seconds or bytes`);
    if (kind === 'histogram') problems.push(...histogramProblems(name, samples));
  }
  return { samples, problems };
}

function readSample(line: string): Sample | undefined {
  const match = linePattern.exec(line);
  if (!match) return undefined;
  const [, name = '', inside = '', text = ''] = match;
  const value = text === '+Inf' ? Number.POSITIVE_INFINITY : Number(text);
  const labels: Record<string, string> = {};
  labelPattern.lastIndex = 0;
  while (labelPattern.lastIndex < inside.length) {
    const label = labelPattern.exec(inside);
    if (!label) return undefined;
    labels[label[1]!] = label[2]!;
  }
  return Number.isNaN(value) && text !== 'NaN' ? undefined : { name, labels, value };
}

const keyOf = ({ name, labels }: Sample): string => `${name} ${JSON.stringify(Object.entries(labels).sort())}`;

/** The name that TYPE stands under: a histogram's samples have endings of their own. */
function familyOf(name: string, type: ReadonlyMap<string, string>): string {
  const family = name.replace(/_(bucket|sum|count)$/, '');
  return ['histogram', 'summary'].includes(type.get(family) ?? '') ? family : name;
}

/** Checks that bucket counts never decrease, and that the last bucket counts everything. */
function histogramProblems(name: string, samples: readonly Sample[]): string[] {
  const problems: string[] = [];
  for (const { labels, value } of samples.filter((sample) => sample.name === `${name}_count`)) {
    const own = JSON.stringify(Object.entries(labels).sort());
    const buckets = samples.filter((sample) => {
      const { le: _, ...others } = sample.labels;
      return sample.name === `${name}_bucket` && JSON.stringify(Object.entries(others).sort()) === own;
    });
    const counts = buckets.map((bucket) => bucket.value);
    if (counts.some((count, index) => count < (counts[index - 1] ?? 0))) problems.push(`${name} ${own} shrinks`);
    if (buckets.at(-1)?.labels.le !== '+Inf' || counts.at(-1) !== value) problems.push(`${name} ${own} lacks +Inf`);
  }
  return problems;
}
