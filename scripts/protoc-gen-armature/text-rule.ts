// The rule for text, which applies to every string of a request unless the contract says otherwise.
import { type DescField, ScalarType } from '@bufbuild/protobuf';
import { type Check, RuleError, setRules, type ValueType } from './checks.ts';
import type { TextOptions } from './options.ts';
import { holdsText, type ValueRules } from './rules.ts';

export type TextRule = 'line' | 'lines' | 'unrestricted';

/** Throws a RuleError for an option that says nothing, or stands on a field without text. */
export function textRuleOf(field: DescField, options: TextOptions | undefined): TextRule {
  if (!options) return 'line';
  if (!holdsText(field)) throw new RuleError('has (armature.options.v1.text), but holds no string');
  const { rule } = options;
  if (rule.case === 'multiline' && rule.value) return 'lines';
  if (rule.case === 'unrestrictedBecause' && rule.value.trim() !== '') return 'unrestricted';
  throw new RuleError(
    'has a text rule that says nothing; write {multiline: true} or {unrestricted_because: "…"}, or leave it out',
  );
}

/** The check of one value; none where its other rules allow printable ASCII only. */
export function textChecks(rule: TextRule, type: ValueType, { typed }: ValueRules): Check[] {
  if (rule === 'unrestricted' || type.kind !== 'scalar' || type.scalar !== ScalarType.STRING) return [];
  if (typed?.[0] === 'string' && [...setRules(typed[1])].some(allowsOnlyAscii)) return [];
  const [broken, explained] =
    rule === 'line'
      ? ['rules.brokenLine(v)', 'rules.lineProblem(v)']
      : ['rules.brokenLines(v)', 'rules.linesProblem(v)'];
  return [{ broken, description: '', explained, reason: `text.${rule}` }];
}

/** Whether a rule of a string can only be kept by printable ASCII that is not blank, or by the empty string. */
export function allowsOnlyAscii([name, value]: readonly [string, unknown]): boolean {
  if (name === 'uuid') return value === true;
  if (name === 'const') return isPrintable(String(value));
  if (name === 'in') return (value as readonly string[]).every(isPrintable);
  return name === 'pattern' && isAsciiPattern(String(value));
}

const isPrintable = (text: string): boolean => /^[!-~]*$/.test(text);

/** An anchored sequence of literals and classes, without negations, escapes, blanks and groups. */
const isAsciiPattern = (pattern: string): boolean =>
  /^\^(?:[A-Za-z0-9_:@/-]|\[[!-Z_-~][!-Z^-~]*\]|\{\d+(?:,\d*)?\}|[?+*])*\$$/.test(pattern);
