import { Assertion, Enforcer, Model, newModelFromString, type RoleManager } from 'casbin';
import type { Rule, RuleScope } from './policy-text.ts';

/**
 * The Casbin model. A rule can only allow. There are no deny rules that could be forgotten, and no patterns or
 * expressions inside a rule.
 */
export const modelText = `
[request_definition]
r = sub, permission

[policy_definition]
p = sub, permission, scope

[role_definition]
g = _, _

[policy_effect]
e = some(where (p.eft == allow))

[matchers]
m = r.permission == p.permission && g(r.sub, p.sub)
`;

/** The scope of the first rule, in the order given, that allows it; null when none does. */
export type Ask = (subject: string, permission: string, rules: readonly Rule[]) => RuleScope | null;

/**
 * Evaluates a few rules at a time with Casbin: its enforcer walks every rule it contains, so it gets only those that
 * can match. Each query has its own enforcer over the parsed model, which costs a few microseconds. No enforcer is
 * changed after it was made.
 */
export function askCasbin(roles: RoleManager): Ask {
  const parsed = newModelFromString(modelText);
  const links = parsed.model.get('g')!.get('g')!;
  const template = parsed.model.get('p')!.get('p')!;
  links.rm = roles;
  return (subject, permission, rules) => {
    const definition = new Assertion();
    definition.key = template.key;
    definition.value = template.value;
    definition.tokens = template.tokens;
    definition.policy = rules.map((rule) => [rule.subject, rule.permission, rule.scope]);
    const model = new Model();
    for (const [section, definitions] of parsed.model) model.model.set(section, definitions);
    model.model.set('p', new Map([['p', definition]]));
    const enforcer = new Enforcer();
    enforcer.setModel(model);
    const [allowed, because] = enforcer.enforceExSync(subject, permission);
    return allowed ? ((because[2] as RuleScope | undefined) ?? null) : null;
  };
}
