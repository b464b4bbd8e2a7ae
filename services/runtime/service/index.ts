export { watchers } from './watchers.ts';
