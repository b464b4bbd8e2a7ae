import { refused } from './asking.ts';
import { listLetters } from './letters.ts';

await listLetters().catch(refused);
