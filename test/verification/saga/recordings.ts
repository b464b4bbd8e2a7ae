/**
 * Recordings of sagas from real runs, kept in the repository. They are few: each behaviour is in one of them. The file
 * has a line for each entry, so that a changed recording is a small diff.
 */
import type { CoreDefinition, Input } from '@armature/runtime/saga';
import { type History, type HistoryEntry, recordingOf } from '@armature/runtime/saga';

/**
 * Selects the histories of one definition to keep as recordings, shortest first. Each kept history shows an outcome, a
 * transition or an end that no shorter one has shown. Skips histories that have not ended. Throws if the definition
 * does not lead where a history went.
 */
export function representatives(definition: CoreDefinition, histories: readonly History[]): History[] {
  const recordings = histories
    .map((history) => recordingOf(definition, { ...history, name: '' }))
    .filter(({ entries }) => /^(completed|failed)/.test(entries.at(-1)?.led ?? ''))
    .map((recording) => ({ recording, text: JSON.stringify(recording.entries) }))
    .sort(
      (one, other) => one.recording.entries.length - other.recording.entries.length || compare(one.text, other.text),
    );
  const shown = new Set<string>();
  const named = new Map<string, number>();
  return recordings.flatMap(({ recording }) => {
    const news = recording.entries.map(whatHappened).filter((one) => !shown.has(one));
    if (news.length === 0) return [];
    for (const one of news) shown.add(one);
    const path = pathOf(recording.entries);
    const times = (named.get(path) ?? 0) + 1;
    named.set(path, times);
    return [{ ...recording, name: times === 1 ? path : `${path} (${times})` }];
  });
}

const compare = (one: string, other: string): number => (one < other ? -1 : one > other ? 1 : 0);

const reasonOf = (input: Input): string => ('reason' in input && input.reason ? ` ${input.reason}` : '');
const outcomeText = (input: Input): string => `${'cause' in input ? input.cause : input.kind}${reasonOf(input)}`;

/** An input and the state that it led to, without the number of attempts. */
function whatHappened({ step, kind, input, led = '' }: HistoryEntry): string {
  return `${kind} ${step}: ${outcomeText(input)} > ${led.replace(/ after \d+ ms/, '').replace(/, epoch \d+, attempt \d+/, '')}`;
}

/** Name of a history: its end, and every outcome but the expected ones. */
function pathOf(entries: readonly HistoryEntry[]): string {
  const odd: { what: string; times: number }[] = [];
  for (const { step, kind, input } of entries) {
    if (input.kind === 'compensated' || (input.kind === 'done' && kind === 'run')) continue;
    const what = `${kind === 'run' ? '' : `${kind} `}${step} ${outcomeText(input)}`;
    const last = odd.at(-1);
    if (last?.what === what) last.times += 1;
    else odd.push({ what, times: 1 });
  }
  const end = /^\w+/.exec(entries.at(-1)?.led ?? '')?.[0] ?? '';
  return [end, ...odd.map(({ what, times }) => (times === 1 ? what : `${what} ${times} times`))].join(', ');
}

/** Text of a recordings file: JSON with a line for each entry. */
export function writeRecordings(recordings: readonly History[]): string {
  const written = recordings.map(({ name, saga, version, entries }) => {
    const lines = entries.map((entry) => `    ${JSON.stringify(entry)}`).join(',\n');
    const of = [`"name": ${JSON.stringify(name)}`, `"saga": ${JSON.stringify(saga)}`];
    if (version !== undefined) of.push(`"version": ${version}`);
    return `  {${of.join(', ')}, "entries": [\n${lines}\n  ]}`;
  });
  return `[\n${written.join(',\n')}\n]\n`;
}

/** Parses the text of `writeRecordings`. Throws if it is not JSON. */
export const readRecordings = (text: string): History[] => JSON.parse(text) as History[];
