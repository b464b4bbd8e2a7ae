/** Tells the person who waits what is being done: one line per finished step, with its seconds. */
export interface Progress {
  /** `work` may tell what it waits for at the moment, and why. */
  step<T>(
    name: string,
    work: (waitingFor: (what: string) => void) => Promise<T>,
    describe?: (result: T) => string,
  ): Promise<T>;
  say(line: string): void;
}

/** A step that lasts longer than this is named while it is still under way, and named again at intervals. */
const longStepMs = 2_000;
const reminderMs = 5_000;

export function terminalProgress(write: (line: string) => void = (line) => console.error(line)): Progress {
  return {
    say: write,
    async step(name, work, describe) {
      const start = performance.now();
      const seconds = () => `${((performance.now() - start) / 1000).toFixed(1)} s`;
      let waitingFor = '';
      const remind = () => {
        write(`  …  ${name} (${seconds()} so far)${waitingFor && `: ${waitingFor}`}`);
        reminder = setTimeout(remind, reminderMs);
      };
      let reminder = setTimeout(remind, longStepMs);
      try {
        const result = await work((what) => {
          waitingFor = what;
        });
        write(`  ok ${name}${describe ? `: ${describe(result)}` : ''} (${seconds()})`);
        return result;
      } catch (error) {
        write(`  !! ${name} failed (${seconds()})`);
        throw error;
      } finally {
        clearTimeout(reminder);
      }
    },
  };
}

export const silent: Progress = { say: () => undefined, step: (_name, work) => work(() => undefined) };

/** Ends a script by its error: the messages of the whole chain of causes, and no stack, unless DEBUG asks for it. */
export function fail(error: unknown): never {
  if (process.env.DEBUG) console.error(error);
  else
    for (let e: unknown = error; e instanceof Error; e = e.cause)
      console.error(e === error ? `\n${e.message}` : `because: ${e.message}`);
  process.exit(1);
}
