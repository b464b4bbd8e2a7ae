/** A form of a page: where it goes, and its hidden fields. */
export interface Form {
  action: string;
  hidden: Record<string, string>;
}

/**
 * The first form that has a field of this name. It reads the pages of identity, which write attributes in double
 * quotes; it is no reader of HTML in general.
 */
export function findForm(html: string, field: string): Form | undefined {
  for (const [, attributes = '', content = ''] of html.matchAll(/<form\b([^>]*)>(.*?)<\/form>/gis)) {
    const inputs = [...content.matchAll(/<input\b([^>]*)>/gi)].map(([, text = '']) => attributesOf(text));
    if (!inputs.some(({ name }) => name === field)) continue;
    const hidden = inputs.filter(({ type, name }) => type === 'hidden' && name !== undefined);
    return {
      action: attributesOf(attributes).action ?? '',
      hidden: Object.fromEntries(hidden.map(({ name, value }) => [name!, value ?? ''])),
    };
  }
  return undefined;
}

/** What a page says went wrong, else what it is about. */
export function textOf(html: string): string {
  const [, alert] = /role="alert"[^>]*>(.*?)<\//is.exec(html) ?? [];
  const [, title] = /<title>(.*?)<\/title>/is.exec(html) ?? [];
  return unescaped((alert ?? title ?? 'a page without words').replace(/<[^>]*>/g, ' '))
    .replace(/\s+/g, ' ')
    .trim();
}

function attributesOf(text: string): Record<string, string | undefined> {
  const pairs = [...text.matchAll(/([a-z-]+)="([^"]*)"/gi)];
  return Object.fromEntries(pairs.map(([, name = '', value = '']) => [name.toLowerCase(), unescaped(value)]));
}

const entities: Record<string, string> = { amp: '&', lt: '<', gt: '>', quot: '"', '#39': "'" };
const unescaped = (text: string) => text.replace(/&(amp|lt|gt|quot|#39);/g, (_, name: string) => entities[name]!);
