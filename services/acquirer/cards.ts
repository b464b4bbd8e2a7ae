/** What happens to the first attempt of an operation; later attempts with the same key always get a response. */
export type AuthorizationRule =
  | 'answer'
  /** Acts durably and never responds. */
  | 'silent_after_acting'
  /** Does not act and never responds; the next attempt acts. */
  | 'silent_before_acting'
  /** Does not act and responds 500; the next attempt acts. */
  | 'fail_before_acting'
  /** Acts and responds only after the configured delay. */
  | 'late'
  /** Responds 202 pending at once and is authorized after the configured delay. */
  | 'pending';

export type CaptureRule = 'answer' | 'silent_after_acting' | 'decline';

/** A closed card takes no refund; the processor may refuse a void for reasons of its own. */
export type ReturnRule = 'answer' | 'decline_refund' | 'decline_void';

/** How the webhook of a pending authorization differs; absent: it is sent once, when the authorization is decided. */
export type WebhookRule =
  /** Sent only after a further delay. */
  | 'late'
  /** Sent twice at once. */
  | 'twice'
  /** The charge is decided and the webhook attempted before the 202 response. */
  | 'before_answer';

export type Card = {
  authorization: AuthorizationRule;
  webhook?: WebhookRule;
  capture: CaptureRule;
  returns?: ReturnRule;
  /** The hold ends after the configured delay instead of the configured time of holds. */
  shortHold?: true;
  decline_code: string | null;
};

const plain: Card = { authorization: 'answer', capture: 'answer', decline_code: null };

/** The test cards by token. */
export const cards: ReadonlyMap<string, Card> = new Map<string, Card>([
  ['card_ok', plain],
  ['card_declined', { ...plain, decline_code: 'card_declined' }],
  ['card_insufficient_funds', { ...plain, decline_code: 'insufficient_funds' }],
  ['card_timeout_after_auth', { ...plain, authorization: 'silent_after_acting' }],
  ['card_timeout_before_auth', { ...plain, authorization: 'silent_before_acting' }],
  ['card_timeout_after_capture', { ...plain, capture: 'silent_after_acting' }],
  ['card_slow', { ...plain, authorization: 'late' }],
  ['card_error_once', { ...plain, authorization: 'fail_before_acting' }],
  ['card_capture_declined', { ...plain, capture: 'decline' }],
  ['card_hold_expires', { ...plain, shortHold: true }],
  ['card_refund_declined', { ...plain, returns: 'decline_refund' }],
  ['card_void_declined', { ...plain, returns: 'decline_void' }],
  ['card_webhook', { ...plain, authorization: 'pending' }],
  ['card_webhook_late', { ...plain, authorization: 'pending', webhook: 'late' }],
  ['card_webhook_twice', { ...plain, authorization: 'pending', webhook: 'twice' }],
  ['card_webhook_before_answer', { ...plain, authorization: 'pending', webhook: 'before_answer' }],
]);
