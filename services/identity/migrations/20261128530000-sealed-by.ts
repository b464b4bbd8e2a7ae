import type { Migration } from '@armature/runtime/migrations';

/**
 * The version of the secret that an artifact is sealed with, by which a job finds those of other versions; zeros for
 * what was sealed before versions existed. Virtual, because processes of the release before do not write it.
 */
export const Migration20261128530000_identity_sealed_by: Migration = {
  name: 'Migration20261128530000_identity_sealed_by',
  up(change) {
    change.addColumn(
      'artifact',
      'sealed_by',
      `binary(8) generated always as
         (if(substr(payload, 1, 4) = x'41533101', substr(payload, 5, 8), x'0000000000000000')) virtual`,
    );
    change.addIndex('artifact', 'artifact_sealed_by', '(sealed_by, model, id_hash)');
  },
};
