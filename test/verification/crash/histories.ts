// Saga histories from the saga log: checked against the present definitions, and recorded for later ones.
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describeDivergence, divergences, type History, type Input, type State } from '@armature/runtime/saga';
import { repository } from '../../../scripts/devmesh/state.ts';
import { sagaDefinitions } from '../../../services/orders/testbed.ts';
import type { ShopData } from '../invariants/shop-data.ts';
import { readRecordings, representatives, writeRecordings } from '../saga/recordings.ts';

/** Every saga of orders with its whole log, including running ones. */
export async function sagaHistories(shopData: Pick<ShopData, 'query'>): Promise<History[]> {
  const sagas = await shopData.query<{ saga_id: string; name: string; version: number; state: string }>(
    'select saga_id, name, definition_version as version, state from {orders}.saga order by saga_id',
  );
  const log = await shopData.query<{ saga_id: string; step: string; kind: string; attempt: number; detail: string }>(
    'select saga_id, step, kind, attempt, detail from {orders}.saga_log order by saga_id, position',
  );
  const entries = Map.groupBy(log, (row) => row.saga_id);
  return sagas.map(({ saga_id, name, version, state }) => ({
    name: saga_id,
    saga: name,
    version,
    state: JSON.parse(state) as State,
    entries: (entries.get(saga_id) ?? []).map(({ step, kind, attempt, detail }) => ({
      ...{ step, kind, attempt },
      input: JSON.parse(detail) as Input,
    })),
  }));
}

/** Sagas whose log does not lead to their state by the present definitions; one sentence each. */
export async function sagasDiverging(shopData: Pick<ShopData, 'query'>): Promise<string[]> {
  return divergences(sagaDefinitions(), await sagaHistories(shopData)).map(describeDivergence);
}

/** Path of the recordings of one version of a saga of orders. */
export const recordingsFile = ({ name, version }: { name: string; version: number }): string =>
  join(repository, 'test', 'verification', 'saga', 'recordings', `${name}-${version}.recordings.json`);

/**
 * Adds the histories of the sagas to the recordings beside the definitions. Returns the number of recordings of each
 * definition. Removes recordings that the present definitions do not follow: running with RECORD=1 is the decision to
 * replace them.
 */
export async function recordSagas(shopData: Pick<ShopData, 'query'>): Promise<Record<string, number>> {
  const histories = await sagaHistories(shopData);
  const written = sagaDefinitions().map((definition): [string, number] => {
    const file = recordingsFile(definition);
    const kept = existsSync(file) ? readRecordings(readFileSync(file, 'utf8')) : [];
    const recordings = representatives(definition, [
      ...kept.filter((recording) => divergences([definition], [recording]).length === 0),
      ...histories.filter(({ saga, version }) => saga === definition.name && version === definition.version),
    ]);
    writeFileSync(file, writeRecordings(recordings));
    return [`${definition.name} ${definition.version}`, recordings.length];
  });
  return Object.fromEntries(written);
}
