/**
 * How statements behave, whatever the server's own default is: a value that does not fit fails instead of being cut,
 * a query whose groups leave a column open fails instead of picking a row. Both servers know all of these.
 */
export const sqlMode = [
  'ONLY_FULL_GROUP_BY',
  'STRICT_TRANS_TABLES',
  'STRICT_ALL_TABLES',
  'NO_ZERO_IN_DATE',
  'NO_ZERO_DATE',
  'ERROR_FOR_DIVISION_BY_ZERO',
  'NO_ENGINE_SUBSTITUTION',
].join(',');
