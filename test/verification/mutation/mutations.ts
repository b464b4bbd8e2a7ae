import { messageMutations } from './message-mutations.ts';
import { moneyMutations } from './money-mutations.ts';
import type { Mutation } from './mutation.ts';
import { sagaMutations } from './saga-mutations.ts';
import { equivalentChanges, shopMutations } from './shop-mutations.ts';

/** All mutations that a test must catch. */
export const mutations: readonly Mutation[] = [
  ...messageMutations,
  ...sagaMutations,
  ...shopMutations,
  ...moneyMutations,
];

export { equivalentChanges };
