import { refused } from './asking.ts';
import { showLetter } from './letters.ts';

await showLetter().catch(refused);
