import { refused } from './asking.ts';
import { compensate } from './sagas.ts';

await compensate().catch(refused);
