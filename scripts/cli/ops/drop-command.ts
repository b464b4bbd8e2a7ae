import { refused } from './asking.ts';
import { dropLetter } from './letters.ts';

await dropLetter().catch(refused);
