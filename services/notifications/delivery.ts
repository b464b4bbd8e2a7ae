export type Template = 'order_confirmed' | 'order_cancelled';
export type State = 'QUEUED' | 'SENT' | 'DEAD' | 'SKIPPED';

export interface MailLine {
  sku: string;
  title: string;
  quantity: string;
  unitPriceMinor: string;
}

/** The values of a template. Amounts are text, so that it can be stored as JSON. */
export interface MailData {
  orderId: string;
  currencyCode: string;
  totalMinor: string;
  lines: MailLine[];
  reason: string;
  /** What the cancellation refunded. */
  refundedMinor: string;
  /** Every refund of the order. Deliveries of earlier versions do not have it: theirs had one refund at most. */
  refundedTotalMinor?: string;
}

export interface Delivery {
  deliveryId: string;
  orderId: string;
  customerId: string;
  template: Template;
  /** Only in rows of earlier releases; empty otherwise: orders has the address. */
  recipient: string;
  data: MailData;
  state: State;
  attempts: number;
  lastError: string;
  mailMessageId: string;
  createdAt: Date;
  sentAt: Date | null;
  nextAttemptAt: Date | null;
}
