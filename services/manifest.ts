// The one list of services. Scripts, tests and checks derive theirs from it; production code does not read it.
// `make check` compares it with every place that has to name each service (scripts/checks/service-places.ts).

/** What cannot be derived from a service's name and contracts. */
export interface ServicePlan {
  /** Preferred port of gRPC calls; without one the service serves no contract. */
  grpcPort?: number;
  /** Preferred port of metrics and health. */
  adminPort?: number;
  /** Preferred port of HTTP or HTTPS. */
  httpPort?: number;
  /** Whether it has a schema with two accounts, and a broker account. */
  stores: boolean;
}

export const servicePlans = {
  catalog: { grpcPort: 7401, adminPort: 7501, stores: true },
  inventory: { grpcPort: 7402, adminPort: 7502, stores: true },
  payments: { grpcPort: 7403, adminPort: 7503, httpPort: 7410, stores: true },
  orders: { grpcPort: 7404, adminPort: 7504, stores: true },
  notifications: { grpcPort: 7405, adminPort: 7505, stores: true },
  acquirer: { httpPort: 7406, stores: false },
  identity: { grpcPort: 7407, adminPort: 7507, httpPort: 7408, stores: true },
  access: { grpcPort: 7409, adminPort: 7509, stores: true },
} as const satisfies Record<string, ServicePlan>;

export type ServiceName = keyof typeof servicePlans;

export const serviceNames = Object.keys(servicePlans) as ServiceName[];

/** The services with a schema and a broker account. */
export const storingServices = serviceNames.filter((name) => servicePlans[name].stores);

/** The services that take gRPC calls. */
export const callableServices = serviceNames.filter((name) => 'grpcPort' in servicePlans[name]);
