// Loads the catalogue of the demo into the running mesh. Running it again adds what is missing and changes nothing.

import { runningMesh } from '../devmesh/running-mesh.ts';
import { catalogue, variantsOf } from './catalogue.ts';
import { loadCatalogue } from './load.ts';
import { openShop } from './shop.ts';

const limitMs = 60_000;

/** Loads the catalogue of the demonstration and says what was added. */
export async function loadDemoCatalogue(): Promise<void> {
  const shop = openShop(runningMesh(), AbortSignal.timeout(limitMs));
  const start = performance.now();
  try {
    const categories = catalogue();
    const { products, deliveries } = await loadCatalogue(shop, categories);
    const seconds = ((performance.now() - start) / 1000).toFixed(1);
    const added = products + deliveries === 0 ? 'all there already' : `added ${products} products`;
    console.log(`${variantsOf(categories).length} SKUs in ${categories.length} categories: ${added} (${seconds} s)`);
  } finally {
    shop.close();
  }
}
