import { runtimeVariables } from '@armature/runtime';

/** The catalog has no variables of its own. */
export const config = runtimeVariables;
