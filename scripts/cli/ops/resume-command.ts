import { refused } from './asking.ts';
import { resume } from './sagas.ts';

await resume().catch(refused);
