import { Assertion, Enforcer, Model, newModelFromString, type RoleManager } from 'casbin';
import type { Rule, RuleScope } from './policy-text.ts';

/**
 * The Casbin model. Something is allowed only because a rule says so: there is no deny to forget, no
 * pattern and no expression inside a rule.
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
 * Puts questions to Casbin over a few rules at a time: its enforcer walks every rule it holds, so it is
 * given only those that can matter. Each question has an enforcer of its own over the parsed model, which
 * costs a few microseconds; none is ever changed after it was made.
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
