import { refused } from './asking.ts';
import { showSaga } from './sagas.ts';

await showSaga().catch(refused);
