import { refused } from './asking.ts';
import { redriveLetters } from './letters.ts';

await redriveLetters().catch(refused);
