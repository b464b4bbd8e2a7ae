/** A network namespace with one cable to this one, whose both directions can be cut without a word to anybody. */
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import type { Teardown } from '../../support/infra.ts';

export interface Namespace {
  /** What stands before a command to run it inside. */
  readonly enter: readonly string[];
  /** Our end of the cable: what the inside reaches us by. */
  readonly here: string;
  /** What leaves us for the inside gets lost. */
  loseReplies(): void;
  /** Both directions get lost. */
  cut(): void;
  heal(): void;
  /** How many TCP connections the inside believes in. */
  connections(): number;
}

const prefix = 'armature-';
const ip = (...args: string[]) => execFileSync('ip', args, { encoding: 'utf8', stdio: 'pipe' });
const tc = (...args: string[]) => execFileSync('tc', args, { encoding: 'utf8', stdio: 'pipe' });

/** Why this machine cannot make namespaces; null when it can. */
export function whyNoNamespaces(): string | null {
  if (process.platform !== 'linux') return 'network namespaces are a thing of Linux';
  if (process.getuid?.() !== 0) return 'only root may make network namespaces';
  try {
    const name = `${prefix}try-${process.pid}`;
    ip('netns', 'add', name);
    ip('netns', 'delete', name);
    tc('-Version');
    return null;
  } catch (error) {
    return `ip netns and tc (Debian: iproute2) do not work here: ${(error as Error).message.trim()}`;
  }
}

/** Names carry the process that made them, so that what an interrupted run left behind can be told and removed. */
export function openNamespace(t: Teardown): Namespace {
  removeLeftovers();
  const name = `${prefix}${process.pid}`;
  const [outer, inner] = [`av${process.pid}`, `aw${process.pid}`];
  const net = `10.${200 + (process.pid % 50)}.${(process.pid >> 6) % 250}`;
  const [here, there] = [`${net}.1`, `${net}.2`];
  t.teardown(() => ip('netns', 'delete', name));
  ip('netns', 'add', name);
  ip('link', 'add', outer, 'type', 'veth', 'peer', 'name', inner, 'netns', name);
  ip('address', 'add', `${here}/30`, 'dev', outer);
  ip('link', 'set', outer, 'up');
  ip('-n', name, 'address', 'add', `${there}/30`, 'dev', inner);
  ip('-n', name, 'link', 'set', inner, 'up');
  ip('-n', name, 'link', 'set', 'lo', 'up');
  // Known for good: what is tested is silence, not a neighbour that ARP calls unreachable.
  const mac = (...where: string[]) => /link\/ether (\S+)/.exec(ip(...where))![1]!;
  ip('neighbour', 'replace', there, 'lladdr', mac('-n', name, 'link', 'show', inner), 'dev', outer);
  ip('-n', name, 'neighbour', 'replace', here, 'lladdr', mac('link', 'show', outer), 'dev', inner);
  // The queueing discipline that drops all it is given and reports success, as a cut cable does.
  const drop = (...where: string[]) => tc(...where, 'root', 'blackhole');
  return {
    enter: ['ip', 'netns', 'exec', name],
    here,
    loseReplies: () => drop('qdisc', 'replace', 'dev', outer),
    cut() {
      drop('qdisc', 'replace', 'dev', outer);
      drop('-n', name, 'qdisc', 'replace', 'dev', inner);
    },
    heal() {
      for (const where of [
        ['qdisc', 'replace', 'dev', outer],
        ['-n', name, 'qdisc', 'replace', 'dev', inner],
      ])
        tc(...where, 'root', 'pfifo', 'limit', '1000');
    },
    connections() {
      const table = ip('netns', 'exec', name, 'cat', '/proc/net/tcp');
      // The fourth column is the state; 01 is ESTABLISHED.
      return table.split('\n').filter((line) => line.trim().split(/\s+/)[3] === '01').length;
    },
  };
}

/** Namespaces of processes that are gone. A cable goes with its namespace. */
function removeLeftovers(): void {
  const folder = '/var/run/netns';
  if (!existsSync(folder)) return;
  for (const name of readdirSync(folder)) {
    const pid = /^armature-(?:try-)?(\d+)$/.exec(name)?.[1];
    if (pid && !isNode(pid)) ip('netns', 'delete', name);
  }
}

function isNode(pid: string): boolean {
  const file = `/proc/${pid}/comm`;
  return existsSync(file) && /node|MainThread/.test(readFileSync(file, 'utf8'));
}
