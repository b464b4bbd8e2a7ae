// A process in which tests run many armature commands, one after the other: it loads their modules once, where a process
// per command costs a third of a second of CPU each. A message names a command; the response says how it ended.
import { runArmature } from './program.ts';

/** One command for the host. */
export interface HostedCommand {
  args: readonly string[];
  /** Variables in addition to those of the host. */
  env: NodeJS.ProcessEnv;
}

/** Collects what a stream is given, until `restore` is called. */
function capture(stream: NodeJS.WriteStream): { text(): string; restore(): void } {
  const { write } = stream;
  let text = '';
  stream.write = (part: string | Uint8Array) => {
    text += typeof part === 'string' ? part : Buffer.from(part).toString();
    return true;
  };
  return {
    text: () => text,
    restore() {
      stream.write = write;
    },
  };
}

async function runHosted({ args, env }: HostedCommand): Promise<void> {
  const before = { ...process.env };
  Object.assign(process.env, env);
  const stdout = capture(process.stdout);
  const stderr = capture(process.stderr);
  try {
    await runArmature(args);
  } finally {
    stdout.restore();
    stderr.restore();
    for (const name of Object.keys(env)) {
      if (before[name] === undefined) delete process.env[name];
      else process.env[name] = before[name];
    }
  }
  process.send!({ code: process.exitCode ?? 0, stdout: stdout.text(), stderr: stderr.text() });
  process.exitCode = undefined;
}

process.on('message', (command: HostedCommand) => void runHosted(command));
// The test has ended.
process.on('disconnect', () => process.exit(0));
