import { commitNamed, mainBranches } from '../../checks/archive.ts';
import { repository } from '../../devmesh/state.ts';
import { UsageError } from '../exit-codes.ts';
import { printJson } from '../json.ts';
import { difference, opens, renderDifference } from './difference.ts';
import { type Snapshot, snapshotOf, snapshotOfCommit } from './snapshot.ts';

/**
 * Prints what a change of policy or contracts opens and closes between a commit and the working tree. The exit code is
 * 0 when no principal may do more than before, 1 when one may, and 2 when there was nothing to compare.
 */
export function printDifference(wanted: string | undefined, { checkout = repository, json = false }): void {
  const base = commitNamed(checkout, wanted ? [wanted] : mainBranches);
  if (!base) {
    throw new UsageError(
      `access diff: ${wanted ? `there is no commit ${wanted}` : 'there is no branch main here; name a commit'}`,
    );
  }
  const found = difference(
    comparable(() => snapshotOfCommit(checkout, base)),
    comparable(() => snapshotOf(checkout)),
  );
  process.exitCode = opens(found) ? 1 : 0;
  if (json) printJson({ base, opens: opens(found), ...found });
  else console.log(renderDifference(found, base).join('\n'));
}

/** Contracts that do not compile and a policy that no service would take cannot be compared. */
function comparable(read: () => Snapshot): Snapshot {
  try {
    return read();
  } catch (error) {
    const [message, cause] = error instanceof Error ? [error.message, error.cause] : [String(error)];
    throw new UsageError(`access diff: ${message}`, { cause });
  }
}
