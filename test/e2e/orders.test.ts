// Orders in the whole mesh. Each of these files also runs alone.
import './orders/placing.ts';
import './orders/checkout.ts';
import './orders/cancellation.ts';
import './orders/holds.ts';
