import { refused } from './asking.ts';
import { listSagas } from './sagas.ts';

await listSagas().catch(refused);
