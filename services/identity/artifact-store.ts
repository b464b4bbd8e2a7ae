import type { Sql, SqlReader, Tx } from '@armature/runtime';
import type { Payload } from 'oidc-provider';
import { fingerprint, type Sealing } from './sealing.ts';

/** A stored code, token, session or grant. */
export interface Artifact {
  payload: Payload;
  consumed: boolean;
}

const purgeBatch = 500;

export type ArtifactStore = ReturnType<typeof artifactStore>;

/**
 * Codes, tokens, sessions and grants. Their identifiers are bearer secrets: the table has only hashes of them, and
 * payloads are sealed to their row, so that a session cannot be taken by reading or moving rows.
 */
export function artifactStore(sealing: Sealing) {
  const context = (model: string, idHash: Buffer) => `${model}:${idHash.toString('hex')}`;
  const opened = (model: string, row: ArtifactRow | undefined): Payload | null =>
    row ? (JSON.parse(sealing.open(row.payload, context(model, row.id_hash))) as Payload) : null;
  return {
    async upsert(sql: Sql, model: string, id: string, payload: Payload, expiresInS: number): Promise<void> {
      const idHash = fingerprint(id);
      await sql.execute(
        `insert into artifact (model, id_hash, uid_hash, grant_hash, user_id, client_id, payload, created_at, expires_at)
         values (?, ?, ?, ?, ?, ?, ?, utc_timestamp(6), utc_timestamp(6) + interval ? second)
         on duplicate key update uid_hash = values(uid_hash), grant_hash = values(grant_hash),
           user_id = values(user_id), client_id = values(client_id), payload = values(payload),
           expires_at = values(expires_at)`,
        columns(sealing, context, model, idHash, payload, expiresInS),
      );
    },

    /** Adds a new artifact. Throws the duplicate key error when it exists. */
    async insert(sql: Sql, model: string, id: string, payload: Payload, expiresInS: number): Promise<void> {
      const idHash = fingerprint(id);
      await sql.execute(
        `insert into artifact (model, id_hash, uid_hash, grant_hash, user_id, client_id, payload, created_at, expires_at)
         values (?, ?, ?, ?, ?, ?, ?, utc_timestamp(6), utc_timestamp(6) + interval ? second)`,
        columns(sealing, context, model, idHash, payload, expiresInS),
      );
    },

    /** An artifact that was consumed less than `reuseS` seconds ago does not count as consumed yet. */
    async find(sql: SqlReader, model: string, id: string, reuseS = 0): Promise<Artifact | null> {
      const rows = await sql.query<ArtifactRow & { consumed: number | null }>(
        `select id_hash, payload, consumed_at <= utc_timestamp(6) - interval ? second as consumed from artifact
         where model = ? and id_hash = ? and expires_at > utc_timestamp(6)`,
        [reuseS, model, fingerprint(id)],
      );
      const payload = opened(model, rows[0]);
      return payload && { payload, consumed: rows[0]?.consumed === 1 };
    },

    async findByUid(sql: SqlReader, model: string, uid: string): Promise<Payload | null> {
      const rows = await sql.query<ArtifactRow>(
        `select id_hash, payload from artifact
         where uid_hash = ? and model = ? and expires_at > utc_timestamp(6)`,
        [fingerprint(uid), model],
      );
      return opened(model, rows[0]);
    },

    /** Returns true for the first caller only. */
    async consume(sql: Sql, model: string, id: string): Promise<boolean> {
      const { affectedRows } = await sql.execute(
        `update artifact set consumed_at = utc_timestamp(6)
         where model = ? and id_hash = ? and consumed_at is null and expires_at > utc_timestamp(6)`,
        [model, fingerprint(id)],
      );
      return affectedRows === 1;
    },

    async destroy(sql: Sql, model: string, id: string): Promise<void> {
      await sql.execute('delete from artifact where model = ? and id_hash = ?', [model, fingerprint(id)]);
    },

    ...revocation,
    ...sessionRevocation(opened),
    ...upkeep,
    ...resealing(sealing, context),
  };
}

/** Deletes artifacts, so that they are no longer valid. */
const revocation = {
  /** Deletes what a grant has issued: artifacts of one model, or all of them and the grant. */
  async revokeGrant(sql: Sql, grantId: string, model: string | null): Promise<void> {
    if (model === null) await sql.execute('delete from artifact where grant_hash = ?', [fingerprint(grantId)]);
    else await sql.execute('delete from artifact where grant_hash = ? and model = ?', [fingerprint(grantId), model]);
  },

  /** Deletes every session, grant and token of a person. */
  async revokeUser(tx: Tx, userId: string): Promise<void> {
    await tx.execute('delete from artifact where user_id = ?', [userId]);
  },

  async revokeClient(tx: Tx, clientId: string): Promise<void> {
    await tx.execute('delete from artifact where client_id = ?', [clientId]);
  },
};

/** As signing out does: deletes a session with its grants, their tokens and codes. */
const sessionRevocation = (opened: (model: string, row: ArtifactRow) => Payload | null) => ({
  async revokeSession(tx: Tx, sessionHash: Buffer): Promise<void> {
    const rows = await tx.query<ArtifactRow>(
      "select id_hash, payload from artifact where uid_hash = ? and model = 'Session'",
      [sessionHash],
    );
    for (const row of rows) {
      const { authorizations = {} } = (opened('Session', row) ?? {}) as SessionPayload;
      for (const { grantId } of Object.values(authorizations)) {
        if (grantId) await revocation.revokeGrant(tx, grantId, null);
      }
    }
    await tx.execute("delete from artifact where uid_hash = ? and model = 'Session'", [sessionHash]);
  },
});

/** What is read of sessions and their tokens. */
export interface SessionPayload extends Payload {
  /** By client id. */
  authorizations?: Record<string, { grantId?: string }>;
  loginTs?: number;
  /** Of a token: the session that it belongs to. */
  sessionUid?: string;
}

const upkeep = {
  /** The grants of a person, for the export. */
  async grantsOf(sql: SqlReader, userId: string): Promise<{ clientId: string | null; since: string }[]> {
    return sql.query(
      `select client_id as clientId, created_at as since from artifact
       where user_id = ? and model = 'Grant' and expires_at > utc_timestamp(6)
       order by created_at limit 1000`,
      [userId],
    );
  },

  /** Deletes expired artifacts, a bounded number at a time. */
  async purge(sql: Sql): Promise<number> {
    const { affectedRows } = await sql.execute(
      `delete from artifact where expires_at < utc_timestamp(6) limit ${purgeBatch}`,
    );
    return affectedRows;
  },
};

/** An artifact as it is stored. */
export interface SealedArtifact extends ArtifactRow {
  model: string;
}

/** Replaces the version of the secret that artifacts are sealed with. */
const resealing = (sealing: Sealing, context: (model: string, idHash: Buffer) => string) => ({
  /** Artifacts of one version, in the order of their keys. */
  async sealedBy(
    sql: SqlReader,
    version: Buffer,
    after: SealedArtifact | null,
    limit: number,
  ): Promise<SealedArtifact[]> {
    const rest = after ? 'and (model > ? or (model = ? and id_hash > ?))' : '';
    return sql.query<SealedArtifact>(
      `select model, id_hash, payload from artifact where sealed_by = ? ${rest} order by model, id_hash limit ?`,
      [version, ...(after ? [after.model, after.model, after.id_hash] : []), limit],
    );
  },

  /** Seals artifacts with the current version, unless they have changed. Returns how many could be opened. */
  async reseal(tx: Tx, artifacts: readonly SealedArtifact[]): Promise<number> {
    let opened = 0;
    for (const { model, id_hash: idHash, payload } of artifacts) {
      const plain = openedOrNull(sealing, payload, context(model, idHash));
      if (plain === null) continue;
      opened += 1;
      await tx.execute('update artifact set payload = ? where model = ? and id_hash = ? and payload = ?', [
        sealing.seal(plain, context(model, idHash)),
        ...[model, idHash, payload],
      ]);
    }
    return opened;
  },
});

function openedOrNull(sealing: Sealing, payload: Buffer, context: string): string | null {
  try {
    return sealing.open(payload, context);
  } catch {
    return null;
  }
}

interface ArtifactRow {
  id_hash: Buffer;
  payload: Buffer;
}

function columns(
  sealing: Sealing,
  context: (model: string, idHash: Buffer) => string,
  model: string,
  idHash: Buffer,
  payload: Payload,
  expiresInS: number,
) {
  // A grant has its own hash, so that one statement revokes it and its tokens.
  const grantId = model === 'Grant' ? payload.jti : payload.grantId;
  return [
    model,
    idHash,
    payload.uid ? fingerprint(payload.uid) : null,
    grantId ? fingerprint(grantId) : null,
    payload.accountId ?? null,
    payload.clientId ?? null,
    sealing.seal(JSON.stringify(payload), context(model, idHash)),
    Math.ceil(expiresInS),
  ];
}
