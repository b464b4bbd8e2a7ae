// What documents quote: links, names in backticks, commands in fenced blocks; and what the repository has of it.
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { repository } from '../../scripts/devmesh/state.ts';
import { commandsOf } from './readme.ts';

/** A document, with its text in parts. */
export interface Document {
  path: string;
  text: string;
  /** The text with fenced blocks blanked, so that positions and lines stay. */
  prose: string;
  /** The content of every pair of backticks of the prose. */
  spans: Quote[];
  /** The commands in fenced blocks without a language. */
  commands: string[];
}

/** A piece of a document, and its line. */
export interface Quote {
  text: string;
  line: number;
}

/** A link to a file of the repository. */
export interface Link extends Quote {
  /** The path from the root of the repository. */
  target: string;
  anchor: string;
  /** The name in backticks right after the link, which is about something in that file. */
  about: string;
}

const fence = /^( *)```(.*)\n([\s\S]*?)^ *```$/gm;

/** Parses a document. */
export function documentOf(path: string, text: string): Document {
  const prose = text.replace(fence, (block) => block.replace(/[^\n]/g, ' '));
  const spans = [...prose.matchAll(/`([^`]+)`/g)].map((match) => quoteAt(prose, match.index, match[1]!));
  const commands = [...text.matchAll(fence)].flatMap(([, indent, language, block]) => {
    if (language !== '') return [];
    const lines = block!.split('\n').map((line) => (line.startsWith(indent!) ? line.slice(indent!.length) : line));
    return lines.some((line) => line.startsWith('$ ')) ? commandsOf(lines.join('\n')) : lines.filter(Boolean);
  });
  return { path, text, prose, spans, commands };
}

const quoteAt = (text: string, index: number, quoted: string): Quote => ({
  text: quoted.replace(/\s+/g, ' '),
  line: text.slice(0, index).split('\n').length,
});

/** The links of the prose to files of the repository. */
export function linksOf({ path, prose }: Document): Link[] {
  return [...prose.matchAll(/\]\(([^)\s]+)\)(?:\s`(\w+)`)?/g)]
    .filter(([, target]) => !/^(https?|mailto):/.test(target!))
    .map((match) => {
      const [file = '', anchor = ''] = match[1]!.split('#');
      const target = file === '' ? path : normalize(join(dirname(path), file)).replace(/\/$/, '');
      return { ...quoteAt(prose, match.index, match[1]!), target, anchor, about: match[2] ?? '' };
    });
}

/** The anchors that GitHub makes of the headings of a page. */
export function anchorsOf(text: string): Set<string> {
  const headings = [...documentOf('', text).prose.matchAll(/^#+ (.+)$/gm)].map((match) => match[1]!.toLowerCase());
  return new Set(headings.map((heading) => heading.replace(/[^\p{L}\p{N} _-]/gu, '').replaceAll(' ', '-')));
}

/** The files of the repository that git does not ignore; undefined where this is no git checkout. */
export function files(): string[] | undefined {
  if (!existsSync(join(repository, '.git'))) return undefined;
  const args = ['ls-files', '-z', '--cached', '--others', '--exclude-standard'];
  const listed = execFileSync('git', args, { cwd: repository, encoding: 'utf8' });
  return listed.split('\0').filter((path) => path !== '' && existsSync(join(repository, path)));
}

/** The text of a file of the repository. */
export const read = (path: string): string => readFileSync(join(repository, path), 'utf8');
