import { createHash } from 'node:crypto';

/** A category, what is sold in it, and between which prices. */
interface Range {
  slug: string;
  title: string;
  /** The start of its SKUs. */
  code: string;
  things: readonly string[];
  variants: readonly [string, string, string, string];
  /** Whole euros. */
  from: number;
  to: number;
}

const sizes = ['S', 'M', 'L', 'XL'] as const;
const woods = ['oak', 'walnut', 'ash', 'black'] as const;
const glazes = ['sage', 'sand', 'slate', 'white'] as const;
const metals = ['brass', 'steel', 'copper', 'black'] as const;
const fabrics = ['linen', 'moss', 'rust', 'indigo'] as const;
const packs = ['250 g', '500 g', '1 kg', '2 kg'] as const;

const ranges: readonly Range[] = [
  range('lamps', 'Lamps', 'LAM', ['Desk Lamp', 'Floor Lamp', 'Pendant', 'Wall Light'], metals, 49, 289),
  range('chairs', 'Chairs', 'CHR', ['Dining Chair', 'Armchair', 'Stool', 'Rocking Chair'], woods, 89, 649),
  range('tables', 'Tables', 'TAB', ['Dining Table', 'Coffee Table', 'Desk', 'Side Table'], woods, 119, 1_290),
  range('shelves', 'Shelves', 'SHF', ['Bookcase', 'Wall Shelf', 'Shoe Rack', 'Ladder Shelf'], woods, 39, 459),
  range('mugs', 'Mugs and cups', 'MUG', ['Mug', 'Espresso Cup', 'Tea Bowl', 'Travel Cup'], glazes, 9, 32),
  range('plates', 'Plates and bowls', 'PLT', ['Dinner Plate', 'Bowl', 'Platter', 'Side Plate'], glazes, 12, 58),
  range('pans', 'Pots and pans', 'PAN', ['Frying Pan', 'Saucepan', 'Casserole', 'Wok'], metals, 29, 219),
  range('knives', 'Kitchen knives', 'KNF', ['Chef Knife', 'Paring Knife', 'Bread Knife', 'Santoku'], woods, 24, 189),
  range('cushions', 'Cushions', 'CSH', ['Cushion', 'Floor Cushion', 'Bolster', 'Seat Pad'], fabrics, 19, 99),
  range('blankets', 'Blankets', 'BLK', ['Throw', 'Wool Blanket', 'Quilt', 'Bedspread'], fabrics, 39, 249),
  range('towels', 'Towels', 'TWL', ['Bath Towel', 'Hand Towel', 'Beach Towel', 'Tea Towel'], fabrics, 9, 59),
  range('shirts', 'Shirts', 'SHT', ['Oxford Shirt', 'Linen Shirt', 'Overshirt', 'Polo'], sizes, 39, 129),
  range('knitwear', 'Knitwear', 'KNT', ['Crew Neck', 'Cardigan', 'Turtleneck', 'Vest'], sizes, 59, 219),
  range('jackets', 'Jackets', 'JKT', ['Rain Jacket', 'Parka', 'Chore Coat', 'Gilet'], sizes, 89, 429),
  range('bags', 'Bags', 'BAG', ['Backpack', 'Tote', 'Weekender', 'Belt Bag'], fabrics, 29, 249),
  range('notebooks', 'Notebooks', 'NTB', ['Notebook', 'Sketchbook', 'Planner', 'Journal'], fabrics, 8, 36),
  range('planters', 'Planters', 'PLN', ['Planter', 'Hanging Pot', 'Window Box', 'Vase'], glazes, 14, 119),
  range('candles', 'Candles', 'CND', ['Scented Candle', 'Pillar Candle', 'Lantern', 'Diffuser'], glazes, 12, 69),
  range('coffee', 'Coffee', 'COF', ['Espresso Beans', 'Filter Roast', 'Decaf', 'Single Origin'], packs, 9, 48),
  range('tea', 'Tea', 'TEA', ['Green Tea', 'Earl Grey', 'Rooibos', 'Oolong'], packs, 7, 39),
];

const series = [
  'Alba',
  'Bruma',
  'Cala',
  'Dune',
  'Este',
  'Fjord',
  'Gala',
  'Halo',
  'Isla',
  'Juno',
  'Kilo',
  'Luma',
  'Nord',
];

export const locations = ['main', 'outlet'] as const;

export interface CatalogueVariant {
  sku: string;
  title: string;
  eurMinor: bigint;
  usdMinor: bigint;
  /** Units delivered to each location; a sold-out variant had one, which broke. */
  stock: Record<(typeof locations)[number], bigint>;
  soldOut: boolean;
}

export interface CatalogueProduct {
  title: string;
  description: string;
  variants: CatalogueVariant[];
}

export interface CatalogueCategory {
  slug: string;
  title: string;
  products: CatalogueProduct[];
}

/** The catalogue of the demo: 20 categories, 260 products, 1,040 SKUs. The same on every machine and every day. */
export function catalogue(): CatalogueCategory[] {
  return ranges.map((one) => ({
    slug: one.slug,
    title: one.title,
    products: series.map((name, index) => product(one, name, index)),
  }));
}

export const variantsOf = (categories: readonly CatalogueCategory[]): CatalogueVariant[] =>
  categories.flatMap(({ products }) => products.flatMap(({ variants }) => variants));

function product(one: Range, name: string, index: number): CatalogueProduct {
  const thing = one.things[index % one.things.length]!;
  const title = `${name} ${thing}`;
  const euros = one.from + pick(`${one.code} ${name}`, one.to - one.from);
  return {
    title,
    description: `${title}, from our ${one.title.toLowerCase()}. Comes in ${one.variants.join(', ')}.`,
    variants: one.variants.map((variant, position) => {
      const sku = `${one.code}-${name.toUpperCase()}-${position + 1}`;
      // Later variants of a product cost a little more, and every price ends as prices in shops do.
      const price = euros + position * Math.ceil(euros / 20);
      const last = index === series.length - 1 && position === one.variants.length - 1;
      return {
        sku,
        title: `${title}, ${variant}`,
        eurMinor: BigInt(price * 100 - 10),
        usdMinor: BigInt(Math.round(price * 1.1) * 100 - 1),
        stock: { main: BigInt(200 + pick(`${sku} main`, 800)), outlet: BigInt(20 + pick(`${sku} outlet`, 80)) },
        soldOut: last,
      };
    }),
  };
}

function range(
  slug: string,
  title: string,
  code: string,
  things: readonly string[],
  variants: Range['variants'],
  from: number,
  to: number,
): Range {
  return { slug, title, code, things, variants, from, to };
}

/** A number from 0 up to, not including, `below`, which depends on nothing but the name. */
function pick(name: string, below: number): number {
  return createHash('sha256').update(name).digest().readUInt32BE(0) % below;
}
