import type { DescService } from '@bufbuild/protobuf';

/**
 * The gRPC service config of a client of this service. Every method that generates is safe to send twice:
 * it only reads, or it is keyed. So each is retried, and only on UNAVAILABLE: any other status is the outcome.
 */
export function serviceConfig(service: DescService): Record<string, unknown> {
  return {
    methodConfig: service.methods.map((method) => ({
      name: [{ service: service.typeName, method: method.name }],
      retryPolicy: {
        maxAttempts: 4,
        initialBackoff: '0.05s',
        maxBackoff: '1s',
        backoffMultiplier: 2,
        retryableStatusCodes: ['UNAVAILABLE'],
      },
    })),
    // Stops retries when more than about one call in ten fails, so that a failing service is not overloaded.
    retryThrottling: { maxTokens: 100, tokenRatio: 0.1 },
    loadBalancingConfig: [{ outlier_detection: outlierDetection }],
  };
}

// grpc-js counts every status but OK as a failure, refusals such as FAILED_PRECONDITION included, so the
// absolute threshold is one that only a broken instance reaches, and the finer one compares instances
// with each other. Half of them stay whatever happens. Durations are objects here, not strings.
const outlierDetection = {
  interval: { seconds: 10, nanos: 0 },
  base_ejection_time: { seconds: 10, nanos: 0 },
  max_ejection_time: { seconds: 60, nanos: 0 },
  max_ejection_percent: 50,
  success_rate_ejection: { stdev_factor: 1900, enforcement_percentage: 100, minimum_hosts: 5, request_volume: 100 },
  failure_percentage_ejection: { threshold: 99, enforcement_percentage: 100, minimum_hosts: 2, request_volume: 50 },
  child_policy: [{ round_robin: {} }],
};
