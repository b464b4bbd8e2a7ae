// Adds a service and removes one, in memory, and sees every place noticed.
import t from 'tap';
import {
  checkout,
  matrixProblems,
  portProblems,
  type ServiceSources,
  servicePlaces,
  serviceProblems,
} from './service-places.ts';

const sources = checkout();
const { plans, contracts, events } = sources;

/** This place is the contracts themselves, so they stay as they are where it is checked. */
const contractPlace = 'proto/armature/<name>/v1';

t.test('every place names every service', async (t) => {
  t.strictSame(serviceProblems(sources), [], 'and no other one');
  t.strictSame(portProblems(plans), [], 'with a port of its own');
  t.strictSame(matrixProblems(sources), [], 'in every row of the matrix');
});

t.test('a service that a place lacks', async (t) => {
  const gifts = {
    ...contracts[0]!.contract,
    name: 'armature.gifts.v1.GiftService',
    methods: {},
    consumes: contracts.flatMap(({ contract }) => contract.consumes).slice(0, 1),
  };
  const added: ServiceSources = {
    ...sources,
    plans: { ...plans, gifts: { grpcPort: 7499, adminPort: 7599, stores: true } },
    contracts: [...contracts, { service: 'gifts', contract: gifts }],
    events: [...events, { ...events[0]!, source: 'gifts', permission: 'gifts.publish' }],
  };
  for (const place of servicePlaces) {
    const problems = serviceProblems(place.path === contractPlace ? { ...added, contracts } : added, [place]);
    t.equal(problems.length, 1, `one problem: ${place.path}`);
    t.match(problems[0], /lacks (gifts|GiftService)\b/);
    t.ok(problems[0]?.startsWith(place.path), 'it names the place');
    t.ok(problems[0]?.endsWith(`: ${place.add}`), 'and what to do');
  }
});

t.test('a service that the manifest lacks', async (t) => {
  const without = (name: string): ServiceSources => ({
    ...sources,
    plans: Object.fromEntries(Object.entries(plans).filter(([one]) => one !== name)),
    contracts: contracts.filter(({ service }) => service !== name),
    events: events.filter(({ source }) => source !== name),
  });
  for (const place of servicePlaces) {
    // Inventory consumes no event.
    const name = place.path.endsWith('consumed events') ? 'notifications' : 'inventory';
    const removed = place.path === contractPlace ? { ...without(name), contracts } : without(name);
    const problems = serviceProblems(removed, [place]);
    t.equal(problems.length, 1, `one problem: ${place.path}`);
    t.match(problems[0], new RegExp(`has (${name}|InventoryService)\\b`));
    t.ok(problems[0]?.startsWith(place.path), 'it names the place');
    t.match(problems[0], /: remove it$/);
  }
});

t.test('a port of two services', async (t) => {
  const problems = portProblems({ ...plans, gifts: { grpcPort: 7401, stores: false } });
  t.strictSame(problems, ['services/manifest.ts: port 7401 of gifts is that of catalog: change it']);
});

t.test('a column that one table of the matrix lacks', async (t) => {
  const file = 'test/conformance/access.matrix.md';
  const text = sources.read(file).replace('| catalog |', '| catalogue |');
  const problems = matrixProblems({ ...sources, read: (path) => (path === file ? text : sources.read(path)) });
  t.match(problems, [/has no column catalog\n/]);
});
