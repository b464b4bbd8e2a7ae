/** A network namespace with one virtual cable to this one. Both directions can be cut silently. */
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import type { Teardown } from '../../support/infra.ts';

export interface Namespace {
  /** Command prefix that runs a command inside. */
  readonly enter: readonly string[];
  /** Address of this end of the cable, which the inside connects to. */
  readonly here: string;
  /** Drops packets from this end to the inside. */
  loseReplies(): void;
  /** Drops packets in both directions. */
  cut(): void;
  restore(): void;
  /** Number of TCP connections that the kernel of the inside considers established. */
  connections(): number;
}

const prefix = 'armature-';
const ip = (...args: string[]) => execFileSync('ip', args, { encoding: 'utf8', stdio: 'pipe' });
const tc = (...args: string[]) => execFileSync('tc', args, { encoding: 'utf8', stdio: 'pipe' });

/** Why this machine cannot create namespaces; null if it can. */
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

/** Names contain the pid of their process, so that leftovers of an interrupted run can be found and removed. */
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
  // Static ARP entries: the test needs lost packets, not a neighbour that ARP reports as unreachable.
  const mac = (...where: string[]) => /link\/ether (\S+)/.exec(ip(...where))![1]!;
  ip('neighbour', 'replace', there, 'lladdr', mac('-n', name, 'link', 'show', inner), 'dev', outer);
  ip('-n', name, 'neighbour', 'replace', here, 'lladdr', mac('link', 'show', outer), 'dev', inner);
  // This queueing discipline drops every packet and reports success, as a cut cable does.
  const drop = (...where: string[]) => tc(...where, 'root', 'blackhole');
  return {
    enter: ['ip', 'netns', 'exec', name],
    here,
    loseReplies: () => drop('qdisc', 'replace', 'dev', outer),
    cut() {
      drop('qdisc', 'replace', 'dev', outer);
      drop('-n', name, 'qdisc', 'replace', 'dev', inner);
    },
    restore() {
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

/** Removes namespaces of processes that no longer exist. A cable is removed with its namespace. */
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
