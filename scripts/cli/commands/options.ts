import { InvalidArgumentError, Option } from 'commander';
import { didYouMean } from '../call/nearest.ts';

/** --as: the principal of a call. */
export const asOption = (principal: string) =>
  new Option(
    '--as <principal>',
    'who calls: customer:<user>, staff:<user>, admin, operator, client:<id>, service:<name> or nobody',
  ).default(principal);

/** --service, for commands that need one. */
export const oneService = () => new Option('--service <name>', 'the service that holds it').makeOptionMandatory();

/** --service, for commands that otherwise take all services. */
export const anyService = () => new Option('--service <name>', 'only this service');

/** --apply: without it a command says what it would do. */
export const applyOption = (what: string) => new Option('--apply', `${what}; without it, only say what would be done`);

export const whyOption = () => new Option('--why <text>', 'the reason, for the record').makeOptionMandatory();

/** Reads a whole number within bounds. */
export function wholeNumber(low: number, high: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (/^\d{1,12}$/.test(text) && value >= low && value <= high) return value;
    throw new InvalidArgumentError(`It is a whole number from ${low} to ${high}.`);
  };
}

/** Reads words separated by commas. */
export const words = (text: string): string[] => text.split(',').filter((word) => word !== '');

/** Reads one of some words; a word that is near one of them is pointed out. */
export function oneOf(choices: readonly string[]): (text: string) => string {
  return (text) => {
    if (choices.includes(text)) return text;
    throw new InvalidArgumentError(`It is one of ${choices.join(', ')}${didYouMean(text, choices) || '.'}`);
  };
}

/** An option that takes one of some words. */
export function choiceOption(flags: string, description: string, choices: readonly string[]): Option {
  return new Option(flags, description).choices(choices).argParser(oneOf(choices));
}

/** Commander passes a variadic argument as an array. */
export const listOf = (argument: unknown): string[] => (Array.isArray(argument) ? (argument as string[]) : []);
