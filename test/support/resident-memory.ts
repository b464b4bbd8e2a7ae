import { readFileSync } from 'node:fs';

/** Resident memory of a process by the kernel, MiB as ps and top show it. Throws when the process has ended. */
export function residentMebibytes(pid: number): number {
  const match = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'));
  if (!match) throw new Error(`/proc/${pid}/status tells no VmRSS`);
  return Number(match[1]) / 1024;
}
