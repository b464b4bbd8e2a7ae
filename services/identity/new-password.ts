import { fieldsInvalid } from '@armature/runtime/errors';
import { passwordCommon } from './errors.ts';
import { ruleOf } from './password-strength.ts';
import { type NewPasswordUse, type Passwords, weakness } from './passwords.ts';

const lengths = { min: 8, max: 128 };

/** Where a request has a new password, and what is known of its owner and guessed first. */
interface NewPassword {
  field: string;
  about?: readonly string[];
}

/** Throws FIELDS_INVALID for a password of a wrong length, and PASSWORD_COMMON. */
export async function requireStrongPassword(password: string, { field, about = [] }: NewPassword): Promise<void> {
  const length = [...password].length;
  if (length < lengths.min || length > lengths.max) {
    const description = `must have ${lengths.min} to ${lengths.max} characters (has ${length})`;
    throw fieldsInvalid([{ field, description, reason: 'password_length' }]);
  }
  const weak = await weakness(password, about);
  if (weak) throw passwordCommon(field, ruleOf(weak));
}

/**
 * Hashes a new password. Call it only for a person who has shown that the password is theirs to set: a crowd that has
 * not would take the turns of those who have. Throws what `requireStrongPassword` throws, and RESOURCE_EXHAUSTED when
 * too many wait.
 */
export async function newPasswordHash(
  passwords: Passwords,
  password: string,
  { use, ...where }: NewPassword & { use: NewPasswordUse },
): Promise<string> {
  await requireStrongPassword(password, where);
  return passwords.hash(password, use);
}
