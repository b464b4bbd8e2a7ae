import type { FieldViolation, MethodContract } from '@armature/proto/contract.ts';
import type { Interceptor } from '../context/call-context.ts';
import { fieldsInvalid } from '../errors/errors.ts';

/** Checks the request against the contract's field rules; the error names every violation. */
export function validate(method: MethodContract): Interceptor {
  return (next) => (call) => {
    const violations: FieldViolation[] = [];
    method.validate(call.message, violations);
    return violations.length > 0 ? Promise.reject(fieldsInvalid(violations)) : next(call);
  };
}
