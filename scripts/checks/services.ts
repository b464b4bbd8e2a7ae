// Compares every place that names each service with services/manifest.ts and the contracts: prints each difference with
// what to do about it, and ends with 1 if there is one.
import { checkout, matrixProblems, portProblems, serviceProblems } from './service-places.ts';

const sources = checkout();
const missing = serviceProblems(sources);
// The matrix lists every cell of a missing column, so it comes once the columns are there.
const problems = [...missing, ...portProblems(sources.plans), ...(missing.length === 0 ? matrixProblems(sources) : [])];
for (const problem of problems) console.log(problem);
process.exitCode = problems.length === 0 ? 0 : 1;
