import type { EventContract } from '@armature/proto/contract.ts';
import type { Sql, SqlReader, Tx } from '../db/tx.ts';

/** Dead letters that one statement searches. */
const batchMax = 500;

/**
 * Erases the bodies of dead letters about a person, and drops those that are open. `field` is a text that the body of
 * such an event must contain, such as the person's id; `isAbout` then decides. Searches all dead letters, a bounded
 * number at a time: there are few, and no index can find a text in a body.
 */
export async function eraseDeadLetters<E>(
  tx: Tx,
  event: EventContract<E>,
  { field, isAbout }: { field: string; isAbout: (message: E) => boolean },
  { by, because }: { by: string; because: string },
): Promise<void> {
  for (let after = ''; ; ) {
    const found = await tx.query<{ id: string; candidate: number | string }>(
      'select id, type = ? and locate(?, body) > 0 as candidate from dead_letter where id > ? order by id limit ?',
      [event.type, Buffer.from(field), after, batchMax],
    );
    for (const { id } of found.filter(({ candidate }) => Number(candidate) === 1)) {
      if (isAboutThem(event, await bodyOf(tx, id), isAbout)) await eraseOne(tx, id, by, because);
    }
    const last = found.at(-1);
    if (!last || found.length < batchMax) return;
    after = last.id;
  }
}

async function bodyOf(sql: SqlReader, id: string): Promise<Buffer> {
  const [row] = await sql.query<{ body: Buffer }>('select body from dead_letter where id = ?', [id]);
  return row?.body ?? Buffer.alloc(0);
}

/** The columns of a decision that was made before stay as they are. */
async function eraseOne(sql: Sql, id: string, by: string, because: string): Promise<void> {
  const isOpen = 'redriven_at is null and dropped_at is null';
  await sql.execute(
    `update dead_letter set body = '', dropped_by = if(${isOpen}, ?, dropped_by),
       drop_why = if(${isOpen}, ?, drop_why),
       dropped_at = if(redriven_at is null, coalesce(dropped_at, utc_timestamp(6)), dropped_at)
     where id = ?`,
    [by, because, id],
  );
}

/** A body that cannot be decoded, and contains the text, may be about the person. */
function isAboutThem<E>(event: EventContract<E>, body: Buffer, isAbout: (message: E) => boolean): boolean {
  try {
    return isAbout(event.message.decode(body));
  } catch {
    return true;
  }
}
