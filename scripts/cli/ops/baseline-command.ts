import { refused } from './asking.ts';
import { publishBaselines } from './baselines.ts';

await publishBaselines().catch(refused);
