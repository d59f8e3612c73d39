//! Many at once, and those who stop in the middle: nobody else notices, and what they cost is bounded.
