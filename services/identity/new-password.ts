import { fieldsInvalid } from '@armature/runtime/errors';
import { passwordCommon } from './errors.ts';
import { ruleOf } from './password-strength.ts';
import { type Passwords, weakness } from './passwords.ts';

const lengths = { min: 8, max: 128 };

/**
 * Hashes a new password. `field` is where the request has it; `about` is what is known of its owner and guessed first.
 * Throws FIELDS_INVALID for a wrong length, PASSWORD_COMMON, and RESOURCE_EXHAUSTED when too many wait.
 */
export async function newPasswordHash(
  passwords: Passwords,
  password: string,
  { field, about = [] }: { field: string; about?: readonly string[] },
): Promise<string> {
  const length = [...password].length;
  if (length < lengths.min || length > lengths.max) {
    const description = `must have ${lengths.min} to ${lengths.max} characters (has ${length})`;
    throw fieldsInvalid([{ field, description, reason: 'password_length' }]);
  }
  const weak = await weakness(password, about);
  if (weak) throw passwordCommon(field, ruleOf(weak));
  return passwords.hash(password);
}
