"""fastText quality classifiers: trained and held against examples by commands of their own, scored with by recipes."""
