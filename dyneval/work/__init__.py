"""How work is done: on which processes and machines, in which batches, how far ahead, and how progress is shown.

The steps say what is to be done for one item; what follows from many items, several devices, too little memory and
killed processes is dealt with here, once for all steps.
"""
